"""FuseUNet (Li et al., 2019), not the one of 2025."""

from torch import nn

from nnunet_xmodal.losses.distilled_fusion import DistilledFusionLoss
from nnunet_xmodal.networks.fuse_unet import FuseUNet
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerFuseUNet(XModalTrainer):
    """A master stream selects what is taken of its assistants, and they learn to say what it says.

    Attributes:
        master: number of the stream, from 0; the paper takes the modality that is best alone.
        master_weight, distillation: see DistilledFusionLoss.
    """

    master = 0
    master_weight = 0.5
    distillation = 0.5

    @classmethod
    def build_network(cls, plan: UNetPlan) -> FuseUNet:
        """Build the untrained network of the plan."""
        check_several_streams(plan.streams, cls.__name__, "fuses two or more streams", "train nnUNetTrainer")
        return FuseUNet(**plan.arguments, master=cls.master)

    def _build_loss(self) -> nn.Module:
        return DistilledFusionLoss(
            super()._build_loss(), self.master_weight, self.distillation, self.label_manager.has_regions
        )
