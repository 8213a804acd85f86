"""Checks of what nnU-Net would accept in silence: missing channels, shifted grids, NaN, unknown labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from tqdm import tqdm

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.files.images import read_image, same_geometry, shown_geometry
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.scan import check_finite
from nnunet_xmodal.files.two_places import TwoPlaces, two_places
from nnunet_xmodal.files.whole_labels import cut_labels, rounded_labels
from nnunet_xmodal.processes import worker_pool


def check_cases(
    cases: list[Case], dataset_json: dict, processes: int = 1, progress: bool = True, doing: str = "Checking images"
) -> None:
    """Read every file once and check it; remark on files that ITK and nibabel put at two places.

    Raises:
        XModalError: for the first case with an unreadable image, NaN or infinite voxels, channels (or a label map) of
            different size, spacing, origin or direction, or a label that dataset.json does not name; says how many
            other cases have faults.
    """
    found = list(map_cases(_Check(dataset_json), cases, processes, progress, doing))
    faults = [fault for fault, _ in found if fault]
    if faults:
        raise XModalError(first_of(faults))
    moved = [places for _, of_case in found for places in of_case]
    if moved:
        others = f" ({len(moved) - 1} other files, too.)" if len(moved) > 1 else ""
        remark(f"{moved[0].file} lies at two places: {moved[0].described()}; nnU-Net goes by its reader.{others}")


class _Check:
    """Case → a fault or None, and what lies at two places; a class because workers need to pickle it."""

    def __init__(self, dataset_json: dict) -> None:
        self.dataset_json = dataset_json
        self.n_channels = len(channel_names_of(dataset_json))

    def __call__(self, case: Case) -> tuple[str | None, list[TwoPlaces]]:
        try:
            fault = self._fault(case)
            files = [] if fault else [*case.images, *([case.label] if case.label else [])]
            return fault, [places for file in files if (places := two_places(file)) is not None]
        except XModalError as error:  # returned, because the others are checked as well
            return str(error), []
        except MemoryError as error:
            return f"case {case.name} does not fit into the memory ({error}): are its headers right?", []

    def _fault(self, case: Case) -> str | None:
        first = None
        n_channels = self.n_channels if case.channels is None else len(case.channels)
        for file in [*case.images, *([case.label] if case.label else [])]:
            array, geometry = read_image(file, self.dataset_json, is_label=file is case.label)
            if len(case.images) == 1 and file is case.images[0] and len(array) != n_channels:
                return (
                    f"{file} holds {len(array)} channels, but dataset.json names {n_channels}: add the other "
                    "files of the case, or correct the names."
                )
            if len(case.images) > 1 and file is not case.label and len(array) != 1:
                return (
                    f"{file} holds {len(array)} channels, but {case.name} has a file for each: save one channel in it "
                    "(a picture as grey)."
                )
            if file is case.label and len(array) != 1:
                return (
                    f"{file} holds {len(array)} channels, and a label map has one: save its values in it (a picture as "
                    "grey, without a palette of colours)."
                )
            if file is not case.label:
                check_finite(file, array)
            if file is case.label:
                unknown = sorted(set(np.unique(rounded_labels(array)).tolist()) - case.labels)
                if unknown:
                    return (
                        f"{file} holds the label {unknown[0]:.9g}, which dataset.json does not name: add it to "
                        '"labels" or correct the file.'
                    )
                if len(cut := cut_labels(array)):
                    return (
                        f"{file} holds the label {cut[0]:.9g}, of which nnU-Net drops what is behind the point: "
                        "save it as whole numbers."
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


def map_cases(function: Callable, cases: list[Case], processes: int, progress: bool, doing: str) -> Iterable:
    """Yield what a function makes of every case, in their order, with a progress bar; the function has to pickle."""
    bar = {"total": len(cases), "desc": doing, "disable": not progress}
    if processes <= 1 or len(cases) <= 1:
        yield from tqdm(map(function, cases), **bar)
        return
    with worker_pool(min(processes, len(cases)), doing, "take fewer processes (-np, -npfp, -npp)") as pool:
        yield from tqdm(pool.map(function, cases), **bar)
