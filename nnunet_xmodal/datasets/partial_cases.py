"""Cases that lack channels: which file is which goes by the number in its name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.datasets.cases import SEVERAL_CHANNELS_IN_A_FILE, files_by_channel
from nnunet_xmodal.datasets.streams import channel_names_of, distinct_channel_names
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image


@dataclass(frozen=True)
class PartialCase:
    """A case of which channels may be missing.

    Attributes:
        files: channel number → file, of the channels that have one.
        all_in_one_file: whether `_0000` is a picture that holds all channels.
    """

    name: str
    files: dict[int, Path]
    all_in_one_file: bool = False

    def given(self, streams: Sequence[Sequence[int]]) -> list[int]:
        """Return the numbers of the streams whose files are all there."""
        return [number for number, channels in enumerate(streams) if set(channels) <= set(self.files)]

    def missing(self, dataset_json: dict) -> list[int]:
        """Return the numbers of the channels without a file."""
        if self.all_in_one_file:
            return []
        return [number for number in range(len(channel_names_of(dataset_json))) if number not in self.files]

    def check_has_a_stream(self, streams: Sequence[Sequence[int]], dataset_json: dict) -> None:
        """Check that all files of at least one stream are there.

        Raises:
            XModalError: if no stream is complete, with the first file that one which is begun lacks.
        """
        if self.given(streams):
            return
        begun = next((channels for channels in streams if set(channels) & set(self.files)), streams[0])
        lacking = next(channel for channel in begun if channel not in self.files)
        file = next(iter(self.files.values())).with_name(f"{self.name}_{lacking:04d}{dataset_json['file_ending']}")
        raise XModalError(
            f"{file} ({distinct_channel_names(dataset_json)[lacking]}) is missing: case {self.name} needs all channels "
            "of at least one stream."
        )


def partial_cases(folder: str | Path, dataset_json: dict) -> list[PartialCase]:
    """Return the cases of an images folder, whatever channels they have.

    Raises:
        XModalError: see `files_by_channel`; also for a number that dataset.json does not name, and a picture that
            cannot be read.
    """
    names, ending = distinct_channel_names(dataset_json), dataset_json["file_ending"]
    cases = []
    for case, files in files_by_channel(folder, ending).items():
        is_alone = set(files) == {0} and ending in SEVERAL_CHANNELS_IN_A_FILE and len(names) > 1
        holds_all = is_alone and len(read_image(files[0], dataset_json, is_label=False)[0]) == len(names)
        cases.append(PartialCase(case, files, holds_all))
    for found in cases:
        if max(found.files) >= len(names):
            raise XModalError(
                f"{found.files[max(found.files)]} is one channel too many: dataset.json names {len(names)} "
                f"({', '.join(names)})."
            )
    return cases
