"""Trainers of models that predict whatever streams a case has (`nnUNetXModal_predict --allow_missing`)."""

from typing import TYPE_CHECKING

from torch import nn

from nnunet_xmodal.losses.some_streams import TwiceSeenLoss
from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams, StreamDropout
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.twice_decoded_unet import TwiceDecodedUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.cmff import nnUNetTrainerCMFF
from nnunet_xmodal.trainers.csad import nnUNetTrainerCSAD, nnUNetTrainerSCFF
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object  # a mixin, whose methods nnU-Net's trainer has behind it


class DropsStreams(_Trainer):
    """A mixin before a trainer: streams are dropped at random in training, never all of a sample; validation sees all
    of them.

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


class nnUNetTrainerMultiStreamDropoutPaired(nnUNetTrainerMultiStreamDropout):
    """Every sample is seen twice, with all its streams and with some of them; `stream_dropout` is of no effect, because
    every such subset is equally likely.

    A step costs a decoder more than one of nnUNetTrainerMultiStream: no complete sample is lost to the dropout.

    Attributes:
        some_weight: share of the loss that is about samples with some of their streams, from 0 to 1: what is gained
            without a stream costs where all are there.
        distillation_from_complete: γ, by how much what is said with some streams learns from what is said with all, see
            TwiceSeenLoss.
    """

    some_weight = 0.2
    distillation_from_complete = 0.0

    @classmethod
    def build_network(cls, plan: UNetPlan) -> TwiceDecodedUNet:
        """Build the untrained network of the plan."""
        return TwiceDecodedUNet(**plan.arguments, **{**cls.blocks(plan), "stream_dropout": SomeStreams()})

    def _build_loss(self) -> nn.Module:
        return TwiceSeenLoss(
            super()._build_loss(), self.some_weight, self.distillation_from_complete, self.label_manager.has_regions
        )


class nnUNetTrainerMultiStreamDropoutDistilled(nnUNetTrainerMultiStreamDropoutPaired):
    """What is said with some streams also learns from what is said with all of them."""

    distillation_from_complete = 0.5
