"""The streams of a model for its card, by the names of their channels."""

from collections.abc import Mapping

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.streams import Streams, as_one_input, describe_streams, distinct_channel_names, streams_of
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


def streams_read_by(trainer: type, plans: Mapping, configuration: str, dataset_json: dict) -> str | None:
    """Return which channels a model's network reads, and which of them together.

    Args:
        trainer: class that has trained it.
        plans, configuration, dataset_json: of the model.

    Returns:
        "T2W | ADC" for two encoders, "T2W+ADC as one input" for one; None for a trainer from elsewhere that builds a
        network of its own, of which nothing is known.

    Raises:
        XModalError: for streams that are not those of the channels.
    """
    architecture = PlansManager(dict(plans)).get_configuration(configuration).configuration["architecture"]
    streams = streams_of(dict(plans), architecture, dataset_json)
    if issubclass(trainer, XModalTrainer):
        streams = trainer.streams_read(streams)
    elif not _builds_the_network_of_plans(trainer):
        return None
    elif "streams" not in architecture.get("arch_kwargs", {}):
        streams = as_one_input(streams)
    return _told(streams, distinct_channel_names(dataset_json))


def _builds_the_network_of_plans(trainer: type) -> bool:
    """Whether a trainer leaves it to nnU-Net to build what the plans name."""
    return getattr(trainer, "build_network_architecture", None) is nnUNetTrainer.build_network_architecture


def _told(streams: Streams, names: list[str]) -> str:
    told = describe_streams(streams, names)
    return f"{told} as one input" if len(streams) == 1 and len(streams[0]) > 1 else told
