"""nnU-Net's decoder with other stages than stacks of convolutions."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from nnunet_xmodal.networks.plan_layers import PlanLayers
from nnunet_xmodal.networks.unet_plan import unused_heads_without_gradient


class StageDecoder(nn.Module):
    """Transposed convolution, concatenation with the skip, a stage, a head; from coarse to fine.

    Args:
        layers: of the plan.
        skips: channels of the skips from fine to coarse, the bottleneck last.
        stage: `(channels, level)` → module from this many channels, which are the skip's and as many of the level below
            as the plan is wide, to what `width_of(level)` says.
        width_of: level → channels that its stage puts out.
        num_classes, deep_supervision: as nnU-Net's `UNetDecoder` takes them.

    Shape: skips `(B, skips[level], *spatial_of_level)` → logits `(B, num_classes, *spatial)`, or with
    `deep_supervision` a list of them from fine to coarse.
    """

    def __init__(
        self,
        layers: PlanLayers,
        skips: Sequence[int],
        stage: Callable[[int, int], nn.Module],
        width_of: Callable[[int], int],
        num_classes: int,
        deep_supervision: bool,
    ) -> None:
        super().__init__()
        self.deep_supervision = deep_supervision
        self.transpconvs, self.stages, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        below = skips[-1]
        for level in reversed(range(layers.levels - 1)):
            self.transpconvs.append(layers.upsampling(below, layers.widths[level], level + 1))
            self.stages.append(stage(layers.widths[level] + skips[level], level))
            below = width_of(level)
            self.seg_layers.append(layers.head(below, num_classes))
        unused_heads_without_gradient(self.seg_layers, deep_supervision)

    def forward(self, skips: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Return the logits; see the class."""
        *finer, x = skips
        decoded = []  # from coarse to fine
        for upsample, stage, skip in zip(self.transpconvs, self.stages, finer[::-1]):
            x = stage(torch.cat((upsample(x), skip), 1))
            decoded.append(x)
        if not self.deep_supervision:
            return self.seg_layers[-1](x)
        return [head(features) for head, features in zip(self.seg_layers, decoded)][::-1]


class OneStreamEncoder(nn.Module):
    """An encoder that reads all channels at once.

    Args:
        input_channels: all of them, those of a cascade included.
        stages: from the features of a level, or the image, to those of the next one.

    Shape: `(B, input_channels, *spatial)` → features from fine to coarse.
    """

    def __init__(self, input_channels: int, stages: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stream_channels = [list(range(input_channels))]
        self.stages = nn.ModuleList(stages)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of every level."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features

    def stream_features(self, x: torch.Tensor) -> list[list[torch.Tensor]]:
        """Return the features of the one stream, `[0][level]`."""
        return [self(x)]
