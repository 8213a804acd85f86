"""CRTPNet (Huang et al., Cross-Reference Transformer for Few-shot Medical Image Segmentation, 2023), ALPNet, PANet."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.local_prototypes import ALPHA
from nnunet_xmodal.networks.blocks.pairs import of_shots
from nnunet_xmodal.networks.input_check import check_input
from nnunet_xmodal.networks.padding import with_background
from nnunet_xmodal.networks.support_features import Features, SupportFeatures, reduced_masks
from nnunet_xmodal.networks.support_set import SupportSet
from nnunet_xmodal.numerics import full_precision

NEVER = -2 * ALPHA
"""The margin of a label without support, the smallest that scores can have."""

_IMAGES_AT_ONCE = 16  # of the support in one pass of the backbone


class PrototypeNetwork(nn.Module):
    """Segments what its support shows; a label is nothing but masks of a few slices.

    Backbone, cross-reference block, prototypes: CRTPNet has all three, ALPNet and PANet no cross-reference block.

    **In training** it is given an episode and answers `(scores, alignment)`, see `episode`.

    **In evaluation** it is given slices alone and answers with the support that it holds: K chunks along every label's
    extent, with S shots each (1-way: labels know nothing of each other). The margin of a label is its foreground score
    less its background score, of the chunk where that is largest, in [−40, 40]; −40 for a label without support. Logits
    are 0 for the background and the margins: the argmax is the label with the largest positive margin. No gradient
    flows through the support.

    Support images, masks, which of them exist and where they lie are buffers of fixed shape, so that every state dict
    holds them. Features of the support are computed once, in float32, and again when weights or support have changed:
    after a training, another state dict, another device, `set_support`, and, but not under torch.compile, any change in
    place that is not made through `.data`, of which torch keeps no count.

    Masks are reduced to the features' resolution bilinearly, as in ALPNet's code, which samples four pixels of 8×8; a
    mask that vanishes so is averaged. What nnU-Net pads with 0 is seen as background, see `padding.with_background`.

    Args:
        backbone: `(B, C, H, W)` → features `(B, D, h, w)`, for example ResNetBackbone.
        prototypes: LocalPrototypes, ClassPrototypes or RecurrentPrototypes.
        labels: L, without background.
        cross_reference: CrossReference, CrossReferenceTransformer or None.
        chunks: K.
        shots: S of the support that it holds; episodes may have other numbers.
        input_channels: C.
        size: H, W of all slices.
        background: whether there is a logit of the background; False for regions, where nnU-Net takes a sigmoid each.
        padded_by_background: False leaves padding at 0, as in models trained before it was told from the image.

    Shape: `(B, C, H, W)` → logits `(B, 1 + L, H, W)`, without background `(B, L, H, W)`.

    Raises:
        XModalError: in forward for slices of another size or number of channels; for NaN or infinity in evaluation.
    """

    def __init__(
        self,
        backbone: nn.Module,
        prototypes: nn.Module,
        labels: int,
        cross_reference: nn.Module | None = None,
        chunks: int = 3,
        shots: int = 1,
        input_channels: int = 1,
        size: Sequence[int] = (256, 256),
        background: bool = True,
        padded_by_background: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.prototypes = prototypes
        self.cross_reference = cross_reference
        self.labels, self.chunks, self.shots = labels, chunks, shots
        self.input_channels = input_channels
        self.size = [int(side) for side in size]
        self.background, self.padded_by_background = background, padded_by_background
        self.support = SupportSet(labels, chunks, shots, input_channels, self.size)
        self._features = SupportFeatures()

    def forward(
        self,
        x: torch.Tensor,
        support: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        pair: torch.Tensor | None = None,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Return `segment(x)`, and `episode(x, support, mask, pair)` where a support is given."""
        if support is None or mask is None:
            return self.segment(x)
        return self.episode(x, support, mask, pair)

    def episode(
        self, query: torch.Tensor, support: torch.Tensor, mask: torch.Tensor, pair: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score classes, one per episode: what the support says about the query, and what that says about the support.

        Episodes of the same slices share them and their pass through the backbone.

        The alignment (Eq. 7) takes the query with the mask predicted for it, at the features' resolution and without
        gradient, as support of each support image; features are those behind the cross-reference block. Where nothing
        or everything is predicted as foreground there is nothing to align: both scores are 0 and without gradient.

        Args:
            query: `(B, C, H, W)`.
            support: `(B, S, C, H, W)`.
            mask: of the support, `(N, S, H, W)`, 1 for foreground.
            pair: which of the B queries and supports each of the N episodes is about, `(N,)`; None for N = B, in order.

        Returns:
            Scores of background and foreground: of the queries `(N, 2, H, W)`, of the support images `(N·S, 2, H, W)`.
        """
        self._check(query)
        self._check(support.flatten(0, 1))
        shots = support.shape[1]
        features = self.backbone(torch.cat((support.flatten(0, 1), query)))  # one pass: batch norm sees all images
        ours, theirs = features[: -len(query)].unflatten(0, (-1, shots)), features[-len(query) :]
        reduced = reduced_masks(mask, features.shape[2:])
        if self.cross_reference is not None:
            ours, theirs = self.cross_reference(ours, theirs, reduced, pair=pair)  # N S D h w, N D h w
            pair = None  # maps of its own for every episode

        scores = self.prototypes(ours, reduced, theirs, pair=pair)  # N 2 h w
        predicted = (scores[:, 1] > scores[:, 0]).detach().repeat_interleave(shots, 0)[:, None]  # N·S 1 h w
        as_support = theirs.repeat_interleave(shots, 0)[:, None]  # B·S or N·S 1 D h w
        aligned = self.prototypes(as_support, predicted, ours.flatten(0, 1), pair=of_shots(pair, shots))  # N·S 2 h w
        both = predicted.flatten(1).any(1) & ~predicted.flatten(1).all(1)
        aligned = torch.where(both[:, None, None, None], aligned, 0.0)
        return self._enlarged(scores), self._enlarged(aligned)

    def segment(
        self,
        x: torch.Tensor,
        chunk: torch.Tensor | int | None = None,
        position: torch.Tensor | float | None = None,
        of_label: Mapping[int, int | None] | None = None,
    ) -> torch.Tensor:
        """Return the logits `(B, 1 + L, H, W)` of slices `(B, C, H, W)`: of the best of all chunks, or of one per slice
        and label.

        Args:
            chunk, position: of every slice, `(B,)`, or of all: who answers, see `SupportSet.answering`.
            of_label: the chunk that answers for a label instead; None for a label that these slices do not show.
        """
        self._check(x)
        query, support = self.backbone(self._surrounded(x)), self._support_features()
        margins = []
        for label in range(self.labels):
            who = (of_label[label], None) if of_label and label in of_label else (chunk, position)
            if of_label and of_label.get(label, 0) is None:
                margins.append(x.new_full((len(x), 1, *self.size), NEVER))
            else:
                margins.append(self._margin(label, query, support, *who))
        if self.background:
            margins.insert(0, torch.zeros_like(margins[0]))
        return torch.cat(margins, 1)

    def margins(self, x: torch.Tensor, label: int, chunk: torch.Tensor | int | None = None) -> torch.Tensor:
        """Return the margins of one label, from 0, `(B, 1, H, W)`, as `segment` has them: positive where it is
        segmented if alone.
        """
        self._check(x)
        return self._margin(label, self.backbone(self._surrounded(x)), self._support_features(), chunk, None)

    def set_support(
        self,
        label: int,
        chunk: int,
        shot: int,
        image: torch.Tensor,
        mask: torch.Tensor,
        position: float | None = None,
    ) -> None:
        """Put one slice into the support, see `SupportSet.put`."""
        self.support.put(label, chunk, shot, image, mask, position)
        self._features.forget()

    def clear_support(self) -> None:
        """Take all slices out of the support, before another one is set."""
        self.support.clear()
        self._features.forget()

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one episode with one shot; nnU-Net plans by it."""
        size = 2 * self.backbone.compute_conv_feature_map_size(input_size)
        if self.cross_reference is not None:
            size += self.cross_reference.compute_conv_feature_map_size(self.backbone.feature_size(input_size))
        return size

    def train(self, mode: bool = True) -> "PrototypeNetwork":
        """Switch to training, which forgets the support's features, or to evaluation."""
        if mode:
            self._features.forget()
        return super().train(mode)

    def _apply(self, *args: Any, **kwargs: Any) -> nn.Module:
        before = self._places()
        result = super()._apply(*args, **kwargs)
        if self._places() != before:  # nnU-Net moves the network to its device before every case
            self._features.forget()
        return result

    def load_state_dict(self, state_dict: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Load weights, and keep the support's features if none changes: nnU-Net loads every fold's before every
        case.
        """
        kept = self._features.kept if self._holds(state_dict) else None
        result = super().load_state_dict(state_dict, *args, **kwargs)
        self._features.keep(kept, self._looked_through())
        return result

    def _holds(self, state_dict: Mapping[str, torch.Tensor]) -> bool:
        own = self.state_dict()
        return own.keys() == state_dict.keys() and all(
            torch.equal(value, state_dict[name].to(value)) for name, value in own.items()
        )

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._features.forget()
        super()._load_from_state_dict(*args, **kwargs)

    def _check(self, x: torch.Tensor) -> None:
        check_input(x, self.input_channels, (), self.training)
        if list(x.shape[2:]) != self.size:
            raise XModalError(
                f"the network was made for slices of {self.size} and got {list(x.shape[2:])}: cut or pad them, or plan "
                "with another --size."
            )

    def _surrounded(self, x: torch.Tensor) -> torch.Tensor:
        return with_background(x) if self.padded_by_background else x

    def _margin(
        self,
        label: int,
        query: torch.Tensor,
        support: Features,
        chunk: torch.Tensor | int | None,
        position: torch.Tensor | float | None,
    ) -> torch.Tensor:
        """Of one label, for query features `(B, D, h, w)` and what `_support_features` gives: `(B, 1, H, W)`."""
        features, masks = (kept[label] for kept in support)  # K S D h w, K S h w
        answering = self.support.answering(label, len(query), chunk, position)  # B choices
        choices = answering.shape[1]
        index = answering.flatten()  # B·choices
        exists = self.support.exists[label, index]  # B·choices S
        repeated = query.repeat_interleave(choices, 0)
        ours, theirs = features[index], repeated
        if self.cross_reference is not None:
            ours, theirs = self.cross_reference(ours, theirs, masks[index], exists=exists)
        scores = self.prototypes(ours, masks[index], theirs, exists)  # B·choices 2 h w
        margin = self._enlarged(scores[:, 1:] - scores[:, :1])  # B·choices 1 H W
        margin = torch.where(exists.any(1)[:, None, None, None], margin, NEVER)
        return margin.unflatten(0, (-1, choices)).amax(1)

    def _support_features(self) -> Features:
        """Of all support images, before the cross-reference."""
        kept = self._features.get(self._looked_through(), self._computed_support, keep=not self.training)
        # what was kept in inference mode cannot be saved for a backward pass
        return (kept[0].clone(), kept[1].clone()) if torch.is_grad_enabled() else kept

    def _computed_support(self) -> Features:
        images = self._surrounded(self.support.images.flatten(0, 2))
        with torch.no_grad(), full_precision(images):
            features = torch.cat([self.backbone(some) for some in images.split(_IMAGES_AT_ONCE)])
            masks = reduced_masks(self.support.masks.flatten(0, 2)[None], features.shape[2:]).to(features.dtype)
        shape = self.support.exists.shape
        return features.unflatten(0, shape), masks[0].unflatten(0, shape)

    def _looked_through(self) -> tuple[torch.Tensor, ...]:
        """All that features of the support depend on."""
        return (*self.backbone.parameters(), *self.backbone.buffers(), self.support.images, self.support.masks)

    def _places(self) -> list[int]:
        return [tensor.data_ptr() for tensor in self._looked_through()]

    def _enlarged(self, scores: torch.Tensor) -> torch.Tensor:
        """`(N, c, h, w)` → `(N, c, H, W)`."""
        return F.interpolate(scores, size=self.size, mode="bilinear", align_corners=False)
