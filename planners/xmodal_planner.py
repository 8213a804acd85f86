"""nnU-Net's planner for networks with one encoder per stream."""

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

from nnunet_xmodal.data.streams import Streams, channel_names_of, parse_streams, streams_of_dataset
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet


class XModalPlanner(ExperimentPlanner):
    """Patch and batch size for MultiStreamUNet instead of PlainConvUNet, everything else as nnU-Net does it.

    The plans name our network and its streams, so stock `nnUNetTrainer` trains a multi-stream network with them.

    Args:
        streams: per stream its channels, names or indices; None takes those of dataset.json.
        others: as in nnU-Net.
    """

    def __init__(
        self,
        dataset_name_or_id: str | int,
        gpu_memory_target_in_gb: float = 8,
        preprocessor_name: str = "DefaultPreprocessor",
        plans_name: str = "nnUNetXModalPlans",
        overwrite_target_spacing: list[float] | tuple[float, ...] | None = None,
        suppress_transpose: bool = False,
        streams: Streams | None = None,
    ):
        super().__init__(
            dataset_name_or_id,
            gpu_memory_target_in_gb,
            preprocessor_name,
            plans_name,
            overwrite_target_spacing,
            suppress_transpose,
        )
        self.UNet_class = MultiStreamUNet
        names = channel_names_of(self.dataset_json)
        default = streams_of_dataset(self.dataset_json) or [[index] for index in range(len(names))]
        self.streams = parse_streams(streams or default, names)

    def static_estimate_VRAM_usage(
        self, patch_size, input_channels, output_channels, arch_class_name, arch_kwargs, arch_kwargs_req_import
    ) -> int:
        network = get_network_from_plans(
            arch_class_name,
            {**arch_kwargs, "streams": self.streams},
            arch_kwargs_req_import,
            input_channels,
            output_channels,
            allow_init=False,
        )
        return network.compute_conv_feature_map_size(patch_size)

    def get_plans_for_configuration(self, *args, **kwargs) -> dict:
        plan = super().get_plans_for_configuration(*args, **kwargs)
        plan["architecture"]["arch_kwargs"]["streams"] = self.streams
        return plan
