"""nnU-Net's own network on cases that lack channels: what models for any streams have to beat."""

from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.networks.zero_filled_unet import ZeroFilledUNet
from nnunet_xmodal.trainers.base.incomplete_cases import TrainsOnIncompleteCases
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerZeroFill(TrainsOnIncompleteCases, XModalTrainer):
    """One encoder for all channels; 0 takes the place of an absent one.

    Absence goes by channel here, whatever streams they belong to.

    Attributes:
        channel_dropout: probability with which a channel is dropped in training, never all of a sample; 0 for none.
    """

    channel_dropout = 0.0

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Add to the plans that every channel may be absent by itself."""
        super().set_up(plans, configuration, dataset_json)
        plans["xmodal"]["can_be_absent"] = [[channel] for channel in range(len(channel_names_of(dataset_json)))]

    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> ZeroFilledUNet:
        """Build the untrained network of the plan."""
        unet = {name: value for name, value in plan.arguments.items() if name != "streams"}
        dropout = StreamDropout(cls.channel_dropout) if cls.channel_dropout else None
        n_channels = sum(len(stream) for stream in plan.streams)
        return ZeroFilledUNet(n_channels=n_channels, channel_dropout=dropout, **unet)


class nnUNetTrainerChannelDropout(nnUNetTrainerZeroFill):
    """The same, with channels set to 0 at random in training, as often as the other trainers drop streams."""

    channel_dropout = 0.25
