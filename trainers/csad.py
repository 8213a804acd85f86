"""CSAD and SCFF with their ablations (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Tables I–III)."""

from functools import partial

from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.attention_distillation import DistilledSegmentationLoss
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.late_fusion_unet import LateFusionUNet
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream


class nnUNetTrainerCSAD(nnUNetTrainerMultiStream):
    """The proposal: interlaced distillation and SCFF, with nnU-Net's segmentation loss and optimiser.

    Attributes:
        scheme: "ILC", "PLC", or None for no connection (NLC).
        fuse: whether SCFF takes the place of concatenation at the bottleneck.
        softmax: reading of SCFF's spatial softmax, "dual", "row" or "all".
    """

    scheme: str | None = "ILC"
    fuse = True
    softmax = "dual"

    @classmethod
    def distillation(cls) -> DistillationPaths | None:
        return cls.scheme and DistillationPaths(cls.scheme, AttentionMapGenerationBlock(cls.attention_normalisation))

    @classmethod
    def fusion(cls):
        return partial(SpatialCorrelatedFeatureFusion, softmax=cls.softmax)

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        fusion = cls.fusion() if cls.fuse else None
        return {**super().blocks(plan), "fusion": fusion, "distillation": cls.distillation()}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> nn.Module:
        cls._check_streams(plan)
        return super().build_network(plan)

    @classmethod
    def _check_streams(cls, plan: UNetPlan) -> None:
        if len(plan.streams) < 2:
            raise XModalError(
                f"{cls.__name__} fuses two or more streams but the plans hold one, {plan.streams}: give dataset.json "
                "two streams, or train nnUNetTrainerMultiStream."
            )

    def _build_loss(self) -> nn.Module:
        return DistilledSegmentationLoss(super()._build_loss(), self.alpha)

    @property
    def segmentation_loss(self) -> nn.Module:
        return self.loss.segmentation_loss


class nnUNetTrainerSCFF(nnUNetTrainerCSAD):
    """Baseline + SCFF, Table I; "no layer connection" (NLC) of Table II."""

    scheme = None


class nnUNetTrainerCSADNoSCFF(nnUNetTrainerCSAD):
    """Baseline + CSAD, Table I."""

    fuse = False


class nnUNetTrainerCSADPLC(nnUNetTrainerCSAD):
    """Same-level connections, Table II."""

    scheme = "PLC"


class nnUNetTrainerCSADMean(nnUNetTrainerCSAD):
    """Attention from the mean instead of the sum over channels, whose softmax is nearly one-hot on wide layers."""

    attention_normalisation = "mean"


class nnUNetTrainerCSADEarlyFusion(nnUNetTrainerCSAD):
    """One encoder for all channels, distillation from each of its levels to the next, Table III; nothing to fuse."""

    fuse = False

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        every_channel = sorted(index for stream in plan.streams for index in stream)
        return MultiStreamUNet(**{**plan.arguments, "streams": [every_channel]}, distillation=cls.distillation())


class nnUNetTrainerCSADLateFusion(nnUNetTrainerCSAD):
    """One encoder and one decoder per stream, SCFF behind the decoders, Table III; always fuses.

    Attributes:
        max_positions: to which the decoders' features are pooled for SCFF.
    """

    max_positions = 1024

    @classmethod
    def build_network(cls, plan: UNetPlan) -> LateFusionUNet:
        cls._check_streams(plan)
        return LateFusionUNet(
            **plan.arguments,
            fusion=cls.fusion(),
            distillation=cls.distillation(),
            max_positions=cls.max_positions,
        )
