"""Trainers of models for any of their streams that lose no complete sample to dropout; this package's own."""

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.some_streams import TwiceSeenLoss
from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams
from nnunet_xmodal.networks.twice_decoded_unet import TwiceDecodedUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.incomplete_cases import TrainsOnIncompleteCases
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream


class nnUNetTrainerAnyStreams(TrainsOnIncompleteCases, nnUNetTrainerMultiStream):
    """Concatenated streams; every training sample is seen twice, with all its streams and with some of them.

    The skips of either kind have 1×1 convolutions of their own. The encoders run once, so that a step costs a decoder
    more than one of nnUNetTrainerMultiStream.

    Attributes:
        reduce_some: see MultiStreamEncoder.
        some_weight: share of the loss that is about samples with some of their streams, from 0 to 1.
        distillation_from_complete: γ, by how much what is said with some streams learns from what is said with all, see
            TwiceSeenLoss.
    """

    reduce_some = True
    some_weight = 0.5
    distillation_from_complete = 0.0

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what the network takes besides the plan."""
        return {**super().blocks(plan), "stream_dropout": SomeStreams(), "reduce_some": cls.reduce_some}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> TwiceDecodedUNet:
        """Build the untrained network of the plan."""
        cls._check_streams(plan)
        return TwiceDecodedUNet(**plan.arguments, **cls.blocks(plan))

    def get_tr_and_val_datasets(self) -> tuple[nnUNetBaseDataset, nnUNetBaseDataset]:
        """Return the datasets of training and validation.

        Raises:
            XModalError: where every training case lacks a stream, so that what is for complete ones learns nothing.
        """
        training, validation = super().get_tr_and_val_datasets()
        if self.reduce_some and set(training.identifiers) <= set(self.missing):
            raise XModalError(
                f"no training case of this fold is complete, and {type(self).__name__} has convolutions for complete "
                "cases alone: train nnUNetTrainerMultiStreamDropout."
            )
        return training, validation

    def _build_loss(self) -> nn.Module:
        return TwiceSeenLoss(
            super()._build_loss(), self.some_weight, self.distillation_from_complete, self.label_manager.has_regions
        )


class nnUNetTrainerAnyStreamsDistilled(nnUNetTrainerAnyStreams):
    """What is said with some streams also learns from what is said with all of them."""

    distillation_from_complete = 0.5
