"""HSCNet (Jia et al., 2019)."""

from nnunet_xmodal.networks.hsc_net import HSCNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerHSCNet(XModalTrainer):
    """Hierarchical separable convolutions; all streams are one input.

    Attributes:
        views: axes of the patch that the grouped convolutions and the one behind them do not see. The paper averages
            trainings of several; so do subclasses with other views, and `nnUNetv2_ensemble`.
    """

    views = (-1, 0)

    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> HSCNet:
        """Build the untrained network of the plan."""
        return HSCNet(**plan.arguments, views=cls.views)
