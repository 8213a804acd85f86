"""Trainers of models that predict whatever streams a case has (`nnUNetXModal_predict --allow_missing`)."""

from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.incomplete_cases import TrainsOnIncompleteCases
from nnunet_xmodal.trainers.cmff import nnUNetTrainerCMFF
from nnunet_xmodal.trainers.csad import nnUNetTrainerCSAD, nnUNetTrainerSCFF
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream


class DropsStreams(TrainsOnIncompleteCases):
    """A mixin before a trainer: streams that a sample has are dropped at random in training, never all of them;
    validation sees all that there are.

    Attributes:
        stream_dropout: probability with which a stream is dropped, see StreamDropout.
    """

    stream_dropout = 0.25

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what the network takes besides the plan, stream dropout among it."""
        check_several_streams(plan.streams, cls.__name__, "drops streams", "train a trainer without dropout")
        return {**super().blocks(plan), "stream_dropout": StreamDropout(cls.stream_dropout)}


class nnUNetTrainerMultiStreamDropout(DropsStreams, nnUNetTrainerMultiStream):
    """The baseline of CSAD with stream dropout."""


class nnUNetTrainerSCFFDropout(DropsStreams, nnUNetTrainerSCFF):
    """SCFF with stream dropout."""


class nnUNetTrainerCSADDropout(DropsStreams, nnUNetTrainerCSAD):
    """CSAD and SCFF with stream dropout."""


class nnUNetTrainerCMFFDropout(DropsStreams, nnUNetTrainerCMFF):
    """CMFF with stream dropout; `-pretrained_weights` as there."""
