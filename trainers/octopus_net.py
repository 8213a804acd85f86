"""OctopusNet (Chen et al., 2019)."""

from nnunet_xmodal.networks.octopus_net import OctopusNet
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerOctopusNet(XModalTrainer):
    """An encoder per stream and one decoder, whose stages read all encoders and all coarser stages."""

    @classmethod
    def build_network(cls, plan: UNetPlan) -> OctopusNet:
        """Build the untrained network of the plan."""
        check_several_streams(plan.streams, cls.__name__, "fuses two or more streams", "train nnUNetTrainer")
        return OctopusNet(**plan.arguments)
