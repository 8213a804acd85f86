"""UNet++ (Zhou et al., 2018)."""

from torch import nn

from nnunet_xmodal.losses.beside import SupervisedBeside
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.networks.unet_plus_plus import UNetPlusPlus
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerUNetPlusPlus(XModalTrainer):
    """Nested skips; all streams are one input. The loss is the mean of nnU-Net's and of those of the inner columns."""

    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> UNetPlusPlus:
        """Build the untrained network of the plan."""
        return UNetPlusPlus(**plan.arguments)

    def _build_loss(self) -> nn.Module:
        return SupervisedBeside(super()._build_loss(), mean=True)
