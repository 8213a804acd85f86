"""mmFormer (Zhang et al., 2022)."""

from torch import nn

from nnunet_xmodal.losses.beside import SupervisedBeside
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.mm_former import MMFormer
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.incomplete_cases import TrainsOnIncompleteCases
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainermmFormer(TrainsOnIncompleteCases, XModalTrainer):
    """Transformers within and between streams, of which any may lack: in training, and `nnUNetXModal_predict
    --allow_missing`.

    Attributes:
        stream_dropout: probability with which a stream is dropped in training; with 0.5 every subset but the empty one
            is equally likely, as in the published code.
        dropout: of the transformers.
    """

    stream_dropout = 0.5
    dropout = 0.1

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MMFormer:
        """Build the untrained network of the plan."""
        check_several_streams(plan.streams, cls.__name__, "fuses two or more streams", "train nnUNetTrainer")
        return MMFormer(
            **plan.arguments,
            patch_size=plan.patch_size,
            dropout=cls.dropout,
            stream_dropout=StreamDropout(cls.stream_dropout),
        )

    def _build_loss(self) -> nn.Module:
        return SupervisedBeside(super()._build_loss())
