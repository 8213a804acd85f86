"""nnU-Net's own network on one stream: UNet(T2W), UNet(ADC) of the paper (Zhang et al., 2020, Table III)."""

from nnunet_xmodal.datasets.streams import Streams
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerStream0(XModalTrainer):
    """The first stream alone.

    Attributes:
        stream: number of the stream that is read; the others are loaded, for equal patches, and ignored.
    """

    stream = 0

    @classmethod
    def streams_read(cls, streams: Streams) -> Streams:
        """Return the stream alone."""
        return [streams[cls.stream]]

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        """Build the untrained network of the plan."""
        if cls.stream >= len(plan.streams):
            raise XModalError(
                f"{cls.__name__} reads stream {cls.stream} but the plans hold {len(plan.streams)}, {plan.streams}: "
                "streams are counted from 0."
            )
        ignored = [index for stream in plan.streams for index in stream if stream is not plan.streams[cls.stream]]
        return MultiStreamUNet(
            **{**plan.arguments, "streams": cls.streams_read(plan.streams)},
            ignored_channels=ignored,
        )


class nnUNetTrainerStream1(nnUNetTrainerStream0):
    """The second stream alone."""

    stream = 1


class nnUNetTrainerStream2(nnUNetTrainerStream0):
    """The third stream alone."""

    stream = 2


class nnUNetTrainerStream3(nnUNetTrainerStream0):
    """The fourth stream alone."""

    stream = 3
