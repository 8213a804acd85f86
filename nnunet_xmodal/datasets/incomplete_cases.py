"""Training cases that lack channels, as they lie in a raw dataset."""

from collections.abc import Sequence
from pathlib import Path

from nnunet_xmodal.datasets.cases import Case, check_labelled, label_values
from nnunet_xmodal.datasets.partial_cases import partial_cases
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.errors import XModalError


def incomplete_training_cases(raw_folder: Path, dataset_json: dict, streams: Sequence[Sequence[int]]) -> list[Case]:
    """Return the training cases of a raw dataset with the channels that each has.

    Args:
        streams: of which every case has to have one with all its channels.

    Raises:
        XModalError: see `partial_cases` and `check_labelled`; for a dataset.json that lists its files, a case without a
            whole stream, and a channel that no case has.
    """
    if "dataset" in dataset_json:
        raise XModalError(
            f"{raw_folder / 'dataset.json'} lists its files, which does not tell what a missing one would be: put them "
            "into imagesTr, named by case and number of the channel, and delete the list."
        )
    names = distinct_channel_names(dataset_json)
    labels, ending = label_values(dataset_json), dataset_json["file_ending"]
    cases = []
    for case in partial_cases(raw_folder / "imagesTr", dataset_json):
        if not case.all_in_one_file:
            case.check_has_a_stream(streams, dataset_json)
        numbers = sorted(case.files)
        channels = tuple(numbers) if case.missing(dataset_json) else None
        label = raw_folder / "labelsTr" / f"{case.name}{ending}"
        cases.append(Case(case.name, [case.files[number] for number in numbers], label, labels, channels))
    check_labelled(cases, raw_folder, dataset_json)
    if all(case.channels is not None for case in cases):
        found = {channel for case in cases for channel in case.channels or ()}
        for number, name in enumerate(names):
            if number not in found:
                raise XModalError(
                    f"no training case of {raw_folder} has channel {number} ({name}): take it out of dataset.json."
                )
    return cases


def missing_by_name(cases: Sequence[Case], dataset_json: dict) -> dict[str, list[str]]:
    """Return case → names of the channels that it lacks, of the cases that lack any."""
    names = distinct_channel_names(dataset_json)
    return {
        case.name: [name for number, name in enumerate(names) if number not in case.channels]
        for case in cases
        if case.channels is not None
    }
