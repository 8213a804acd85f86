"""What our planners change in nnU-Net's: the network that is planned for, its streams, and which data it shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_xmodal.datasets.streams import Streams, channel_names_of, parse_streams, streams_of_dataset
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.planners.own_planner import OwnPlanner
from nnunet_xmodal.planners.shared_data import shares_data
from nnunet_xmodal.planners.sized_planning import SizedPlanning, sized_name

_WIDTH_STEP = 8  # widths that are no multiple of it waste tensor cores


class MultiStreamPlanning(OwnPlanner, SizedPlanning):
    """A mixin before one of nnU-Net's planners: patch, batch and width for MultiStreamUNet.

    The plans are ordinary ones that name our network and its streams, so that stock `nnUNetTrainer` trains a
    multi-stream network with them.

    Args:
        dataset_name_or_id, others: as nnU-Net's planners take them.
        streams: per stream its channels, names or indices; None takes those of dataset.json.
        iso_compute: narrows every stream to the plan's width divided by their number, so that a training step costs
            about what it costs for nnU-Net's own network; the plain concatenation of skips has the plan's width then.
        patch, base_width: see SizedPlanning.

    Attributes:
        plans_name: where the plans are written if `plans_name` is not given; with "Iso" before "Plans" for
            `iso_compute`, and with the sizes if they are given. nnU-Net keeps configurations of older plans of the
            same name.
    """

    own_options = ("streams", "iso_compute", "patch", "base_width")
    plans_name: str

    def __init__(
        self,
        dataset_name_or_id: str | int,
        *,
        streams: Streams | None = None,
        iso_compute: bool | None = None,
        patch: Sequence[int] | None = None,
        base_width: int | None = None,
        **others: Any,
    ) -> None:
        own_name = self.plans_name.replace("Plans", "IsoPlans") if iso_compute else self.plans_name
        others = {"plans_name": sized_name(own_name, patch, base_width), **others}
        super().__init__(dataset_name_or_id, patch=patch, base_width=base_width, **others)
        self.UNet_class = MultiStreamUNet
        names = channel_names_of(self.dataset_json)
        default = streams_of_dataset(self.dataset_json) or [[index] for index in range(len(names))]
        self.streams = parse_streams(streams or default, names)
        self.iso_compute = bool(iso_compute)

    def generate_data_identifier(self, configuration_name: str) -> str:
        """Name the data; those preprocessed as nnU-Net's default plans do it are shared with them, and between
        pairings.
        """
        if shares_data(self, "nnUNetPlans", configuration_name):
            return f"nnUNetPlans_{configuration_name}"
        return f"{self.plans_identifier}_{configuration_name}"

    def static_estimate_VRAM_usage(
        self,
        patch_size: Sequence[int],
        input_channels: int,
        output_channels: int,
        arch_class_name: str,
        arch_kwargs: dict,
        arch_kwargs_req_import: Sequence[str],
    ) -> int:
        """Return the feature-map size of the network with its streams; the meta device costs no memory."""
        with torch.device("meta"):
            network = get_network_from_plans(
                arch_class_name,
                {**arch_kwargs, **self._of_streams(arch_kwargs)},
                arch_kwargs_req_import,
                input_channels,
                output_channels,
                allow_init=False,
            )
        return network.compute_conv_feature_map_size(patch_size)

    def get_plans_for_configuration(self, *args: Any, **kwargs: Any) -> dict:
        """Return the plan of a configuration, as nnU-Net asks for it."""
        plan = super().get_plans_for_configuration(*args, **kwargs)
        plan["architecture"]["arch_kwargs"] |= self._of_streams(plan["architecture"]["arch_kwargs"])
        return plan

    def _of_streams(self, architecture: dict) -> dict:
        """What is added to nnU-Net's `arch_kwargs`, or takes the place of some."""
        if not self.iso_compute or len(self.streams) == 1:
            return {"streams": self.streams}
        narrow = [
            max(_WIDTH_STEP, round(width / len(self.streams) / _WIDTH_STEP) * _WIDTH_STEP)
            for width in np.atleast_1d(architecture["features_per_stage"]).tolist()
        ]
        return {"streams": self.streams, "features_per_stage": narrow, "reduce_skips": False}
