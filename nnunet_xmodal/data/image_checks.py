"""What nnU-Net would train or predict on without a word: missing channels, shifted grids, NaN, unknown labels."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nnunet_xmodal.data.image_files import read_image, same_geometry, shown_geometry
from nnunet_xmodal.data.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.processes import worker_pool

SEVERAL_CHANNELS_IN_A_FILE = (".png", ".bmp", ".tif")
"""File endings of pictures."""


@dataclass(frozen=True)
class Case:
    """Files of one case: one per channel, in the channels' order, perhaps a label map."""

    name: str
    images: list[Path]
    label: Path | None = None
    labels: frozenset[int] = field(default_factory=frozenset)


def files_by_channel(folder: str | Path, file_ending: str) -> dict[str, dict[int, Path]]:
    """Case → number → file, by nnU-Net's naming, `<case>_<four digits><file ending>`; numbers may be missing.

    Returns:
        Sorted by case.

    Raises:
        XModalError: if the folder is missing or empty, or a file has no channel number.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise XModalError(f"the folder {folder} does not exist.")
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
        raise XModalError(f"the folder {folder} holds no files that end in {file_ending}.")
    return dict(sorted(found.items()))  # nnU-Net's order, by which it deals out parts; that of the files is another


def cases_in_folder(folder: str | Path, dataset_json: dict) -> list[Case]:
    """The cases of an images folder with all their channels.

    Raises:
        XModalError: see `files_by_channel`; also if a case lacks a channel or has one too many. nnU-Net goes by the
            order of the files and would read `_0001` for a missing `_0000`.
    """
    folder, ending = Path(folder), dataset_json["file_ending"]
    names = channel_names_of(dataset_json)
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
    """The training cases of a raw dataset, from its folders or from the file lists in dataset.json.

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
            Case(name, [path(image) for image in files["images"]], path(files["label"]), labels)
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
    for case in cases:
        if not case.label.is_file():
            raise XModalError(f"{case.label} is missing: every training case needs a label map.")
    if len(cases) != dataset_json.get("numTraining", len(cases)):
        raise XModalError(
            f"dataset.json says numTraining {dataset_json['numTraining']} but {raw_folder} holds {len(cases)} cases: "
            "correct the number or add the missing files."
        )
    return cases


def label_values(dataset_json: dict) -> frozenset[int]:
    """All values that a label map may hold; a region's are those of its list."""
    values = {0}
    for value in dataset_json["labels"].values():
        values.update(int(v) for v in (value if isinstance(value, list | tuple) else [value]))
    return frozenset(values)


def check_cases(
    cases: list[Case], dataset_json: dict, processes: int = 1, progress: bool = True, doing: str = "Checking images"
) -> None:
    """Reads every file once.

    Raises:
        XModalError: for the first case with an unreadable image, NaN or infinite voxels, channels (or a label map) of
            different size, spacing, origin or direction, or a label that dataset.json does not name; says how many
            other cases have faults.
    """
    faults = [fault for fault in map_cases(_Check(dataset_json), cases, processes, progress, doing) if fault]
    if faults:
        others = f" ({len(faults) - 1} other cases have faults, too.)" if len(faults) > 1 else ""
        raise XModalError(faults[0] + others)


class _Check:
    """Case → one sentence, or None; a class because workers need to pickle it."""

    def __init__(self, dataset_json: dict):
        self.dataset_json = dataset_json
        self.n_channels = len(channel_names_of(dataset_json))

    def __call__(self, case: Case) -> str | None:
        try:
            first = None
            for file in [*case.images, *([case.label] if case.label else [])]:
                array, geometry = read_image(file, self.dataset_json, is_label=file is case.label)
                if len(case.images) == 1 and file is case.images[0] and len(array) != self.n_channels:
                    return (
                        f"{file} holds {len(array)} channels, but dataset.json names {self.n_channels}: add the other "
                        "files of the case, or correct the names."
                    )
                if file is not case.label and not np.isfinite(array).all():
                    return f"{file} holds NaN or infinite voxels: replace them, for example by zero."
                if file is case.label:
                    unknown = sorted(set(np.unique(array).tolist()) - case.labels)
                    if unknown:
                        return (
                            f"{file} holds the label {unknown[0]:g}, which dataset.json does not name: add it to "
                            '"labels" or correct the file.'
                        )
                if first is None:
                    first = geometry
                for name, value in geometry.items():
                    reference = first.get(name)
                    if reference is not None and not same_geometry(reference, value):
                        return (
                            f"{file} has the {name} {shown_geometry(value)} but {case.images[0]} has "
                            f"{shown_geometry(reference)}: resample them onto one grid."
                        )
            return None
        except XModalError as error:  # returned, because the others are checked as well
            return str(error)
        except MemoryError as error:
            return f"{file} does not fit into the memory ({error}): is its header right?"


def map_cases(function: Callable, cases: list[Case], processes: int, progress: bool, doing: str) -> Iterable:
    """What a function that pickles makes of every case, in their order, with a progress bar called `doing`."""
    bar = {"total": len(cases), "desc": doing, "disable": not progress}
    if processes <= 1 or len(cases) <= 1:
        yield from tqdm(map(function, cases), **bar)
        return
    with worker_pool(min(processes, len(cases)), doing, "take fewer processes (-np, -npfp, -npp)") as pool:
        yield from tqdm(pool.map(function, cases), **bar)
