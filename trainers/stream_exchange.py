"""Streams that hear of each other before they are concatenated; this package's own, not of a paper it rebuilds."""

from functools import partial

from nnunet_xmodal.networks.blocks.spatial_correlation_exchange import SpatialCorrelationExchange
from nnunet_xmodal.networks.blocks.stream_gates import StreamGates
from nnunet_xmodal.networks.multi_stream_encoder import Exchange
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream
from nnunet_xmodal.trainers.stream_dropout import DropsStreams


class ExchangesStreams(nnUNetTrainerMultiStream):
    """Base of trainers whose `exchange()` makes the block that streams pass before they are concatenated."""

    @classmethod
    def exchange(cls) -> Exchange:
        """Return what makes the block."""
        raise NotImplementedError

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what the network takes besides the plan."""
        return {**super().blocks(plan), "exchange": cls.exchange()}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        """Build the untrained network of the plan."""
        cls._check_streams(plan)
        return super().build_network(plan)


class nnUNetTrainerStreamGates(ExchangesStreams):
    """Concatenated streams, weighed against each other at every position of every level, see StreamGates."""

    @classmethod
    def exchange(cls) -> Exchange:
        """Return what makes StreamGates."""
        return StreamGates


class nnUNetTrainerStreamGatesDropout(DropsStreams, nnUNetTrainerStreamGates):
    """Gates with stream dropout."""


class nnUNetTrainerSCFFLevels(ExchangesStreams):
    """Concatenated streams that each add what correlates with them in the others, see SpatialCorrelationExchange.

    Attributes:
        fusion_levels: how many levels, from the bottleneck.
        max_positions: to how many positions the stream that is looked at is pooled.
        correlation_scale: "sqrt" (1/√C̃) or "channels" (1/C̃).
    """

    fusion_levels = 3
    max_positions = 256
    correlation_scale = "sqrt"

    @classmethod
    def exchange(cls) -> Exchange:
        """Return what makes SpatialCorrelationExchange."""
        return partial(
            SpatialCorrelationExchange,
            fusion_levels=cls.fusion_levels,
            max_positions=cls.max_positions,
            correlation_scale=cls.correlation_scale,
        )


class nnUNetTrainerSCFFLevelsDropout(DropsStreams, nnUNetTrainerSCFFLevels):
    """SCFF's correlation on several levels with stream dropout."""
