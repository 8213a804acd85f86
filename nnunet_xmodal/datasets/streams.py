"""Streams: which input channels one encoder reads.

`dataset.json` may hold `"xmodal": {"streams": [["T1", "T1c"], ["T2", "FLAIR"]]}`, with names or indices; without it
every channel is a stream of its own. Every channel belongs to exactly one stream, but for the target of a regression
(see `target_channel`), which belongs to none.
"""

from collections.abc import Sequence

from nnunet_xmodal.datasets.target_channel import input_names
from nnunet_xmodal.errors import XModalError

Streams = list[list[int]]
"""Per stream the indices of its image channels, e.g. `[[0, 1], [2, 3]]`."""


def channel_names_of(dataset_json: dict) -> list[str]:
    """Return the names of the image channels, in the order of their numbers."""
    names = dataset_json.get("channel_names", dataset_json.get("modality"))
    if not names:
        raise XModalError('dataset.json has no "channel_names"; add for example {"0": "T2W", "1": "ADC"}.')
    numbers = [str(index) for index in range(len(names))]
    if set(names) != set(numbers):
        raise XModalError(
            f'"channel_names" of dataset.json number the channels {", ".join(names)}: count them from 0 without a gap.'
        )
    return [names[number] for number in numbers]


def distinct_channel_names(dataset_json: dict) -> list[str]:
    """Return the names of the channels with the numbers of those that share one, `CT (0)`, `CT (1)`.

    nnU-Net normalises by name, so that two phases of a CT are both called CT; where names tell results apart, they
    have to differ.
    """
    names = channel_names_of(dataset_json)
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names)]


def parse_streams(streams: Sequence[Sequence[str | int]], channel_names: Sequence[str]) -> Streams:
    """Turn the names or indices of channels into indices.

    Raises:
        XModalError: if a stream is empty or names an unknown channel, or a channel is in no stream or in two.
    """
    known = ", ".join(f"{index} ({name})" for index, name in enumerate(channel_names))
    indices = []
    if not isinstance(streams, list | tuple):
        raise XModalError(f"the streams {streams!r} are no list of lists of channels; known are {known}.")
    for stream in streams:
        if not stream or not isinstance(stream, list | tuple):
            raise XModalError(
                f"the streams {streams!r} hold {stream!r}, which is not a list of channels; known are {known}."
            )
        indices.append([_index_of(channel, channel_names, known) for channel in stream])
    named = [index for stream in indices for index in stream]
    for index, name in enumerate(channel_names):
        if named.count(index) != 1:
            fault = "twice" if named.count(index) > 1 else "in none of them"
            raise XModalError(
                f"the streams {streams!r} name channel {index} ({name}) {fault}; "
                "every channel belongs to exactly one stream."
            )
    return indices


def _index_of(channel: str | int, channel_names: Sequence[str], known: str) -> int:
    if channel in channel_names:
        if channel_names.count(channel) > 1:
            raise XModalError(f"the channel name {channel!r} is not unique; use channel numbers: {known}.")
        return channel_names.index(channel)
    if isinstance(channel, int) or (isinstance(channel, str) and channel.isdecimal()):
        if 0 <= int(channel) < len(channel_names):
            return int(channel)
    raise XModalError(f"a stream names the unknown channel {channel!r}; known are {known}.")


def streams_from_command_line(words: Sequence[str], channel_names: Sequence[str]) -> Streams:
    """Turn `["T1+T1c", "T2+FLAIR"]` into `[[0, 1], [2, 3]]`; a channel whose own name holds a `+` is matched first."""
    return parse_streams([[word] if word in channel_names else word.split("+") for word in words], channel_names)


def streams_of_dataset(dataset_json: dict, channel_names: Sequence[str] | None = None) -> Streams | None:
    """Return the streams that dataset.json names, None if it names none.

    Args:
        channel_names: of the channels that belong to streams, all of them if None.

    Raises:
        XModalError: see `parse_streams`; also if `"xmodal"` is not `{"streams": …}`.
    """
    entry = dataset_json.get("xmodal", {})
    if not isinstance(entry, dict):
        raise XModalError(f'"xmodal" of dataset.json is {entry!r}: write it as {{"streams": [["T1"], ["T2"]]}}.')
    names = channel_names_of(dataset_json) if channel_names is None else channel_names
    return parse_streams(entry["streams"], names) if "streams" in entry else None


def streams_of(plans: dict, configuration_architecture: dict, dataset_json: dict | None) -> Streams:
    """Return the streams in force: of the plans' architecture, else of `plans["xmodal"]`, else of dataset.json.

    Args:
        plans: the whole plans.
        configuration_architecture: `architecture` of the configuration; may hold `arch_kwargs["streams"]`.
        dataset_json: None at prediction, where the plans of the model folder hold everything.
    """
    n_channels = len(plans["foreground_intensity_properties_per_channel"])
    names = channel_names_of(dataset_json) if dataset_json is not None else [str(i) for i in range(n_channels)]
    if len(names) != n_channels:
        raise XModalError(
            f"dataset.json names {len(names)} channels ({', '.join(names)}) but the plans were made for {n_channels}: "
            "plan and preprocess again."
        )
    names = input_names(names, plans)
    for place in (configuration_architecture.get("arch_kwargs", {}), plans.get("xmodal", {})):
        if "streams" in place:
            return parse_streams(place["streams"], names)
    of_dataset = None if dataset_json is None else streams_of_dataset(dataset_json, names)
    return of_dataset or [[index] for index in range(len(names))]


def as_one_input(streams: Streams) -> Streams:
    """Return the one stream of all their channels, in the order of their numbers."""
    return [sorted(index for stream in streams for index in stream)]


def describe_streams(streams: Streams, channel_names: Sequence[str]) -> str:
    """Return streams as text: `T1+T1c | T2+FLAIR`."""
    return " | ".join("+".join(channel_names[index] for index in stream) for stream in streams)
