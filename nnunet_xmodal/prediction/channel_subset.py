"""Plans and dataset.json as if some channels were all there are: what nnU-Net preprocesses by goes by position."""

from collections.abc import Sequence
from copy import deepcopy

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.prediction.turning import like


def with_channels_only(
    channels: Sequence[int], plans: PlansManager, configuration_name: str, dataset_json: dict
) -> tuple[PlansManager, ConfigurationManager, dict]:
    """Return plans, configuration and dataset.json whose channel k is channel `channels[k]` of the given ones."""
    content = deepcopy(plans.plans)
    configuration = content["configurations"][configuration_name]
    given = plans.get_configuration(configuration_name)  # what it inherits included
    configuration["normalization_schemes"] = [given.normalization_schemes[channel] for channel in channels]
    configuration["use_mask_for_norm"] = [given.use_mask_for_norm[channel] for channel in channels]
    intensities = plans.foreground_intensity_properties_per_channel
    content["foreground_intensity_properties_per_channel"] = {
        str(position): intensities[str(channel)] for position, channel in enumerate(channels)
    }
    subset = like(plans, content)
    names = channel_names_of(dataset_json)
    named = {str(position): names[channel] for position, channel in enumerate(channels)}
    return subset, subset.get_configuration(configuration_name), dataset_json | {"channel_names": named}
