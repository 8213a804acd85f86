"""HyperDenseNet (Dolz et al., 2019)."""

from nnunet_xmodal.networks.hyper_dense_net import HyperDenseNet
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerHyperDenseNet(XModalTrainer):
    """A path per stream, densely connected within and between paths at every level."""

    @classmethod
    def build_network(cls, plan: UNetPlan) -> HyperDenseNet:
        """Build the untrained network of the plan."""
        check_several_streams(plan.streams, cls.__name__, "fuses two or more streams", "train nnUNetTrainer")
        return HyperDenseNet(**plan.arguments)
