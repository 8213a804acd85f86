"""Is the distillation alive? Its size, its gradient beside the segmentation's, and how wide the attention maps are."""

from collections.abc import Iterable

import torch
from torch import nn

from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss, symmetric_kl
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths


def effective_support(log_map: torch.Tensor) -> torch.Tensor:
    """exp(entropy) of an attention map as a share of its positions: 1 is uniform, 1/N a single position.

    Shape: `(B, *spatial)` → `(B,)`.
    """
    entropy = -(log_map.exp() * log_map).flatten(1).sum(1)
    return entropy.exp() / log_map[0].numel()


def distillation_report(
    network: nn.Module,
    segmentation_loss: nn.Module,
    paths: DistillationPaths,
    alpha: float,
    data: torch.Tensor,
    target: torch.Tensor | list[torch.Tensor],
) -> dict:
    """What L_CSAD is and does on one batch, also for networks that are trained without it.

    Args:
        network: with `encoder.stream_features`, in training mode.
        paths: the pairs of attention maps that the loss compares.
        data: `(B, C, *spatial)`; target as the segmentation loss takes it.

    Returns:
        `segmentation_loss`, `alpha_L_CSAD`, `gradient_ratio` (norm of the encoder gradient of α·L_CSAD over that of
        the segmentation loss; None where that is 0), `symmetric_kl` (mean over pairs and samples),
        `effective_support` `[stream][level]`.
    """
    encoder_parameters = [p for p in network.encoder.parameters() if p.requires_grad]
    output = network(data)
    loss = segmentation_loss(output[0] if isinstance(output, tuple) else output, target)
    segmentation_gradient = _norm(torch.autograd.grad(loss, encoder_parameters, allow_unused=True))
    features = network.encoder.stream_features(data)
    pairs = paths(features)
    distillation = alpha * AttentionDistillationLoss()(pairs)
    distillation_gradient = _norm(torch.autograd.grad(distillation, encoder_parameters, allow_unused=True))
    with torch.no_grad():
        support = [[effective_support(paths.amgb(level)).mean().item() for level in stream] for stream in features]
    return {
        "segmentation_loss": loss.item(),
        "alpha_L_CSAD": distillation.item(),
        "gradient_ratio": distillation_gradient / segmentation_gradient if segmentation_gradient else None,
        "symmetric_kl": mean_symmetric_kl(pairs),
        "effective_support": support,
    }


def mean_symmetric_kl(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    """Mean over pairs and samples, without the scale 1/(2·positions) of the loss."""
    return torch.stack([symmetric_kl(a.detach(), b.detach()).mean() for a, b in pairs]).mean().item()


@torch.no_grad()
def symmetric_kl_of_tiles(network: nn.Module, paths: DistillationPaths, tiles: Iterable[torch.Tensor]) -> float:
    """Mean symmetric KL over the tiles `(1, C, *patch)` of a case."""
    values = [mean_symmetric_kl(paths(network.encoder.stream_features(tile))) for tile in tiles]
    return sum(values) / len(values)


def _norm(gradients: Iterable[torch.Tensor | None]) -> float:
    return torch.stack([g.float().norm() for g in gradients if g is not None]).norm().item()
