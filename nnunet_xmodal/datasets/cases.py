"""The cases of a raw dataset: their files, by nnU-Net's naming or as dataset.json lists them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_xmodal.datasets.streams import channel_names_of, distinct_channel_names
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.folders import check_input_folder
from nnunet_xmodal.files.other_endings import images_of_other_endings, sentence_about, tell_of_other_endings

SEVERAL_CHANNELS_IN_A_FILE = (".png", ".bmp", ".tif")
"""File endings of nnU-Net's natural images, which hold all channels of a case."""


@dataclass(frozen=True)
class Case:
    """Files of one case: one per channel, in the channels' order, perhaps a label map.

    Attributes:
        channels: numbers of the channels of `images`, where some may be missing; None for all.
    """

    name: str
    images: list[Path]
    label: Path | None = None
    labels: frozenset[int] = field(default_factory=frozenset)
    channels: tuple[int, ...] | None = None

    @property
    def label_file(self) -> Path:
        """Return the label map of a training case, which has one."""
        assert self.label is not None, f"{self.name} is no training case"
        return self.label


def files_by_channel(folder: str | Path, file_ending: str) -> dict[str, dict[int, Path]]:
    """Return case → number → file, by nnU-Net's naming `<case>_<four digits><file ending>`; numbers may be missing.

    Returns:
        Sorted by case.

    Raises:
        XModalError: if the folder is missing or empty, or a file has no channel number.
    """
    folder = Path(folder)
    check_input_folder(folder)
    found: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        if not file.name.endswith(file_ending):
            continue
        if file.name.startswith("."):
            raise XModalError(f"{file} is a hidden file that nnU-Net takes for an image: delete it.")
        match = re.fullmatch(r"(.+)_(\d{4})", file.name[: -len(file_ending)])
        if match is None:
            example = f"<case>_0000{file_ending}, <case>_0001{file_ending}, …"
            raise XModalError(f"{file} has no channel number: name it {example}.")
        found.setdefault(match[1], {})[int(match[2])] = file
    if not found:
        others = images_of_other_endings(folder, file_ending)
        instead = f"; {sentence_about(others, file_ending)}" if others else "."
        raise XModalError(f"the folder {folder} holds no files that end in {file_ending}{instead}")
    tell_of_other_endings(folder, file_ending)
    return dict(sorted(found.items()))  # nnU-Net's order, by which it deals out parts; that of the files is another


def cases_in_folder(folder: str | Path, dataset_json: dict) -> list[Case]:
    """Return the cases of an images folder, each with all its channels.

    Raises:
        XModalError: see `files_by_channel`; also if a case lacks a channel or has one too many. nnU-Net goes by the
            order of the files and would read `_0001` for a missing `_0000`.
    """
    folder, ending = Path(folder), dataset_json["file_ending"]
    names = distinct_channel_names(dataset_json)
    found = files_by_channel(folder, ending)
    cases = []
    for case, numbers in found.items():
        if set(numbers) == {0} and ending in SEVERAL_CHANNELS_IN_A_FILE:
            cases.append(Case(case, [folder / f"{case}_0000{ending}"]))
            continue
        for number in range(len(names)):
            if number not in numbers:
                missing = folder / f"{case}_{number:04d}{ending}"
                raise XModalError(f"{missing} is missing: case {case} needs channel {number} ({names[number]}).")
        superfluous = max(numbers)
        if superfluous >= len(names):
            raise XModalError(
                f"{folder / f'{case}_{superfluous:04d}{ending}'} is one channel too many: dataset.json names "
                f"{len(names)} ({', '.join(names)})."
            )
        cases.append(Case(case, [folder / f"{case}_{number:04d}{ending}" for number in range(len(names))]))
    return cases


def training_cases(raw_folder: str | Path, dataset_json: dict) -> list[Case]:
    """Return the training cases of a raw dataset, from its folders or from the file lists in dataset.json.

    Raises:
        XModalError: see `cases_in_folder`; also for a case without a label map or another number of cases than
            `numTraining`.
    """
    raw_folder = Path(raw_folder)
    labels = label_values(dataset_json)
    if "dataset" in dataset_json:
        listed = dataset_json["dataset"]

        def path(name: str) -> Path:
            return raw_folder / os.path.expandvars(name)

        cases = [
            Case(name, [path(image) for image in files["images"]], path(files.get("label", "")), labels)
            for name, files in listed.items()
        ]
        n_channels = len(channel_names_of(dataset_json))
        for case in cases:
            if len(case.images) != n_channels:
                raise XModalError(
                    f"dataset.json lists {len(case.images)} images for {case.name} but {n_channels} channels."
                )
    else:
        ending = dataset_json["file_ending"]
        cases = [
            Case(case.name, case.images, raw_folder / "labelsTr" / f"{case.name}{ending}", labels)
            for case in cases_in_folder(raw_folder / "imagesTr", dataset_json)
        ]
    check_labelled(cases, raw_folder, dataset_json)
    return cases


def check_labelled(cases: Sequence[Case], raw_folder: Path, dataset_json: dict) -> None:
    """Check that every training case has a label map, and that there are as many as dataset.json says.

    Raises:
        XModalError: for the first that has none, and another number of cases than `numTraining`.
    """
    for folder in dict.fromkeys(case.label_file.parent for case in cases):
        tell_of_other_endings(folder, dataset_json["file_ending"])
    for case in cases:
        if not case.label_file.is_file():
            raise XModalError(f"{case.label} is missing: every training case needs a label map.")
    if len(cases) != dataset_json.get("numTraining", len(cases)):
        raise XModalError(
            f"dataset.json says numTraining {dataset_json['numTraining']} but {raw_folder} holds {len(cases)} cases: "
            "correct the number or add the missing files."
        )


def label_values(dataset_json: dict) -> frozenset[int]:
    """Return all values that a label map may hold; a region's are those of its list."""
    values = {0}
    for value in dataset_json["labels"].values():
        values.update(int(v) for v in (value if isinstance(value, list | tuple) else [value]))
    return frozenset(values)
