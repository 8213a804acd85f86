"""Of the fusion study alone: SCFF in its other reading, and controls, CSAD whose targets say nothing about the other
stream of the same sample.
"""

import torch

from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths, LogMaps
from nnunet_xmodal.trainers.csad import nnUNetTrainerCSAD, nnUNetTrainerSCFF


class UniformTargets(DistillationPaths):
    """Every target is the uniform map: what a mere flattening of the attention does."""

    def forward(self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None) -> list[LogMaps]:
        """Return the pairs, each second map uniform."""
        pairs = super().forward(stream_features, present)
        return [(a, torch.full_like(b, -torch.tensor(float(b[0].numel())).log().item())) for a, b in pairs]


class ShuffledTargets(DistillationPaths):
    """Every target is that of the next sample of the batch: what any attention map as a target does."""

    def forward(self, stream_features: list[list[torch.Tensor]], present: torch.Tensor | None = None) -> list[LogMaps]:
        """Return the pairs, each second map that of the next sample."""
        return [(a, b.roll(1, 0)) for a, b in super().forward(stream_features, present)]


class _ControlTrainer(nnUNetTrainerCSAD):
    paths_class: type[DistillationPaths]

    @classmethod
    def distillation(cls) -> DistillationPaths:
        amgb = AttentionMapGenerationBlock(cls.attention_normalisation)
        return cls.paths_class("ILC", amgb, cls.stop_gradient, cls.first_level)


class CSADUniform(_ControlTrainer):
    """CSAD, distilled from uniform maps."""

    paths_class = UniformTargets


class CSADShuffled(_ControlTrainer):
    """CSAD, distilled from other samples' maps."""

    paths_class = ShuffledTargets


class SCFFSquareRoot(nnUNetTrainerSCFF):
    """SCFF whose correlation is divided by √C̃, so that its softmax is not flat."""

    correlation_scale = "sqrt"
