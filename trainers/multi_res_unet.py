"""MultiResUNet (Ibtehaz and Rahman, 2020)."""

from nnunet_xmodal.networks.multi_res_unet import MultiResUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerMultiResUNet(XModalTrainer):
    """MultiRes blocks and Res paths; all streams are one input."""

    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiResUNet:
        """Build the untrained network of the plan."""
        return MultiResUNet(**plan.arguments)
