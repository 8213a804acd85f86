"""Report on the distillation: its size, its gradient beside the segmentation's, and where attention maps look."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss, symmetric_kl
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.tasks.segmentation.attention_places import corners_by_chance, correlation, mass_in, peaks_in_a_corner


def effective_support(log_map: torch.Tensor) -> torch.Tensor:
    """Return exp(entropy) of an attention map as a share of its positions: 1 is uniform, 1/N a single position.

    Shape: `(B, *spatial)` → `(B,)`.
    """
    entropy = -(log_map.exp() * log_map).flatten(1).sum(1)
    return entropy.exp() / log_map[0].numel()


@dataclass(frozen=True)
class WeighedLosses:
    """L_Seg and α·L_CSAD, whose gradients are compared.

    Attributes:
        segmentation: L_Seg.
        paths: the pairs of attention maps that the distillation compares.
        distillation: L_CSAD.
        alpha: α.
    """

    segmentation: nn.Module
    paths: DistillationPaths
    distillation: AttentionDistillationLoss
    alpha: float


def distillation_report(
    network: nn.Module,
    losses: WeighedLosses,
    data: torch.Tensor,
    target: torch.Tensor | list[torch.Tensor],
    foreground: torch.Tensor,
) -> dict:
    """Measure what α·L_CSAD does on each sample, and where the maps look; also for networks trained without it.

    Args:
        network: with `encoder.stream_features` and `encoder.streams`, in training mode.
        data: `(B, C, *spatial)`; target as the segmentation loss takes it.
        foreground: bool `(B, *spatial)`, where there is something to segment.

    Returns:
        Medians over the samples, each measured alone: `segmentation_loss`, `alpha_L_CSAD`, `gradient_ratio` (norm of
        the gradient of α·L_CSAD over that of the segmentation loss, of the streams' encoders alone; None where that is
        0), `symmetric_kl` (mean over pairs), `correlation` (Pearson's r of paired sums of squares, mean over pairs),
        `scff_support` (see SCFF, None without it), and as `[stream][level]` `effective_support` and `foreground_mass`
        (over a uniform map's; None where no sample has a foreground). Besides `peaks_in_a_corner`, the share of the
        samples, `[stream][level]`, with `corners_by_chance`, `[level]`, and `samples`, their number.
    """
    targets = target if isinstance(target, list) else [target]
    per_sample = []
    for index in range(len(data)):
        one = slice(index, index + 1)
        of_sample = [level[one] for level in targets]
        of_sample = of_sample if isinstance(target, list) else of_sample[0]
        measured = gradients_of_losses(network, losses, data[one], of_sample)
        per_sample.append({**measured, **_places(network, losses.paths, data[one], foreground[one])})
    report = {key: _median([sample[key] for sample in per_sample]) for key in per_sample[0]}
    peaks = torch.tensor([sample["peaks_in_a_corner"] for sample in per_sample], dtype=torch.float)
    report["peaks_in_a_corner"] = peaks.mean(0).tolist()
    return {**report, "samples": len(data)}


def gradients_of_losses(
    network: nn.Module, losses: WeighedLosses, data: torch.Tensor, target: torch.Tensor | list[torch.Tensor]
) -> dict:
    """Measure both losses of a batch and the norms of their gradients in the streams' encoders.

    Arguments as of `distillation_report`, which says what the keys of the result are.
    """
    parameters = [p for p in network.encoder.streams.parameters() if p.requires_grad]
    output = network(data)
    loss = losses.segmentation(output[0] if isinstance(output, tuple) else output, target)
    of_segmentation = _norm(torch.autograd.grad(loss, parameters, allow_unused=True))
    pairs = losses.paths(network.encoder.stream_features(data))
    distillation = losses.alpha * losses.distillation(pairs)
    of_distillation = _norm(torch.autograd.grad(distillation, parameters, allow_unused=True))
    return {
        "segmentation_loss": loss.item(),
        "alpha_L_CSAD": distillation.item(),
        "gradient_ratio": of_distillation / of_segmentation if of_segmentation else None,
        "symmetric_kl": mean_symmetric_kl(pairs),
    }


@torch.no_grad()
def _places(network: nn.Module, paths: DistillationPaths, data: torch.Tensor, foreground: torch.Tensor) -> dict:
    features = network.encoder.stream_features(data)
    maps = [[paths.amgb(level) for level in stream] for stream in features]
    sums_of_squares = DistillationPaths(paths.scheme, _SumOfSquares(), first_level=paths.first_level)(features)
    fusion = getattr(network.encoder, "fusion", None)
    scff = fusion if isinstance(fusion, SpatialCorrelatedFeatureFusion) else None

    def of_maps(measure: Callable[[torch.Tensor], torch.Tensor]) -> list[list[float]]:
        return [[measure(level).item() for level in stream] for stream in maps]

    return {
        "effective_support": of_maps(effective_support),
        "peaks_in_a_corner": of_maps(peaks_in_a_corner),
        "corners_by_chance": [corners_by_chance(level.shape[1:]) for level in maps[0]],
        "foreground_mass": of_maps(lambda level: mass_in(level, foreground)),
        "correlation": torch.stack([correlation(a, b) for a, b in sums_of_squares]).mean().item(),
        "scff_support": None if scff is None else scff.support([stream[-1] for stream in features]).item(),
    }


class _SumOfSquares(AttentionMapGenerationBlock):
    """The maps before normalisation and softmax, so that all readings are measured alike."""

    def forward(self, features: torch.Tensor, size: Sequence[int] | None = None) -> torch.Tensor:
        """Return the sums of squares of features."""
        return self._activation(features, size)


def _median(values: list) -> float | list | None:
    """Return the median of numbers or equally nested lists, without None and NaN; None where nothing is left."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    median = torch.tensor(known, dtype=torch.float64).nanquantile(0.5, dim=0)
    return None if median.isnan().any() else median.tolist()


def mean_symmetric_kl(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Return the mean over pairs and samples, without the scale 1/(2·positions) of the loss."""
    return torch.stack([symmetric_kl(a.detach(), b.detach()).mean() for a, b in pairs]).mean().item()


@torch.no_grad()
def symmetric_kl_of_tiles(network: nn.Module, paths: DistillationPaths, tiles: Iterable[torch.Tensor]) -> float:
    """Return the mean symmetric KL over the tiles `(1, C, *patch)` of a case."""
    values = [mean_symmetric_kl(paths(network.encoder.stream_features(tile))) for tile in tiles]
    return sum(values) / len(values)


def _norm(gradients: Iterable[torch.Tensor | None]) -> float:
    return torch.stack([g.float().norm() for g in gradients if g is not None]).norm().item()
