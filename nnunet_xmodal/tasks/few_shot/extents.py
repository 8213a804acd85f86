"""Organs whose first and last slice are known: a table says for a case between which slices of its file one lies."""

import csv
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import SimpleITK as sitk
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.stored_axes import stored_axes
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.tables import read_columns
from nnunet_xmodal.geometry.orientation import source_of
from nnunet_xmodal.prediction.turning import TurningPlans
from nnunet_xmodal.tasks.few_shot.file_slices import file_slices
from nnunet_xmodal.tasks.few_shot.support import labels_to_segment
from nnunet_xmodal.tasks.few_shot.support_slices import chunk_of

COLUMNS = ("case", "label", "first", "last")

Extents = dict[str, dict[int, tuple[int, int]]]
"""Case → label, from 0 in the order of the network's outputs → first and last slice of its file, counted from 0."""


def read_extents(file: Path, names: Collection[str], dataset_json: dict, label_manager: LabelManager) -> Extents:
    """Read a table with the columns case, label, first and last.

    Args:
        names: of the cases that there are.
        dataset_json, label_manager: with the labels to segment, which the table calls by name or by value.

    Raises:
        XModalError: names the line, for a case or label that there is not, what is no slice, and an organ given twice.
    """
    outputs = _outputs(dataset_json, label_manager)
    extents: Extents = {}
    for number, row in read_columns(file, COLUMNS):
        where = f"line {number} of {file}"
        if row["case"] not in names:
            raise XModalError(f"{where} names the case {row['case']!r}, which is not among the images: correct it.")
        if row["label"] not in outputs:
            raise XModalError(f"{where} names the label {row['label']!r}: take one of {', '.join(outputs)}.")
        if not (row["first"].isdecimal() and row["last"].isdecimal() and int(row["first"]) <= int(row["last"])):
            raise XModalError(
                f"{where} has the slices {row['first']!r} to {row['last']!r}: give the numbers of the first and the "
                "last slice that show the organ, counted from 0 in the file."
            )
        of_case, label = extents.setdefault(row["case"], {}), outputs[row["label"]]
        if label in of_case:
            raise XModalError(f"{where} gives {row['label']} of {row['case']} a second time: delete one.")
        of_case[label] = int(row["first"]), int(row["last"])
    return extents


def write_extents(of_labels: Mapping[str | int, Sequence[int]], case: str, folder: Path) -> Path:
    """Write the extents of one case as a table that `read_extents` reads.

    Args:
        of_labels: name or value of a label → its first and last slice, counted from 0.
        folder: made if it is not there.

    Returns:
        The table.

    Raises:
        XModalError: for a label without two slices.
    """
    rows = []
    for label, slices in of_labels.items():
        if isinstance(slices, str) or not isinstance(slices, Sequence) or len(slices) != 2:
            raise XModalError(
                f"extents of {label} are {slices!r}: give the numbers of the first and the last slice, (8, 19)."
            )
        rows.append((case, label, *slices))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "extents.csv"
    with open(file, "w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([COLUMNS, *rows])
    return file


def _outputs(dataset_json: dict, label_manager: LabelManager) -> dict[str, int]:
    """Return name, and value where it is one alone → place among the network's outputs."""
    order = list(labels_to_segment(label_manager).values())
    outputs = {}
    for name, value in dataset_json["labels"].items():
        values = tuple(value) if isinstance(value, list | tuple) else (value,)
        if values in order:
            outputs[name] = order.index(values)
            if len(values) == 1:
                outputs.setdefault(str(values[0]), order.index(values))
    return outputs


def check_extents(extents: Extents, cases: Sequence[Case], plans: PlansManager) -> None:
    """Check that scans have the slices that a table gives, as far as their headers tell.

    Raises:
        XModalError: for the first organ that ends beyond its scan.
    """
    for case in cases:
        count = _slices_of(case.images[0], plans)
        for first, last in extents.get(case.name, {}).values():
            if count is not None and last >= count:
                raise XModalError(
                    f"an organ of {case.name} is given from slice {first} to {last}, but {case.images[0]} has {count} "
                    f"slices, 0 to {count - 1}: count from 0 along the axis that the model's slices follow."
                )


def _slices_of(file: Path, plans: PlansManager) -> int | None:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:  # a format that ITK does not read
        return None
    axis = 2 - int(plans.transpose_forward[0])  # of x, y, z
    stored = stored_axes(file)
    if isinstance(plans, TurningPlans) and stored is not None:
        axis = source_of(axis, stored, plans.axes)[0]
    return reader.GetSize()[axis] if axis < reader.GetDimension() else 1


def chunks_at(
    of_case: Mapping[int, tuple[int, int]],
    properties: dict,
    transpose_forward: Sequence[int],
    count: int,
    chunks: int,
) -> list[dict[int, int | None]]:
    """Return for every preprocessed slice which chunk answers for each label with an extent; None outside of it.

    Args:
        of_case: label → first and last slice of the file.
        properties: of the case, as nnU-Net notes them.
        count: preprocessed slices.
        chunks: K of the support.
    """
    slices = file_slices(properties, transpose_forward, count)
    answering: list[dict[int, int | None]] = [{} for _ in range(count)]
    for label, numbers in of_case.items():
        first, last = slices.preprocessed(numbers)
        for index, of_slice in enumerate(answering):
            of_slice[label] = chunk_of(index, first, last, chunks) if first <= index <= last else None
    return answering


class NotingConfiguration(ConfigurationManager):
    """A configuration whose preprocessor notes which case it has read last, where nothing else tells a predictor.

    Attributes:
        noted: "case" and "properties"; other processes have notes of their own.
        file_ending: of the images.
    """

    def __init__(self, configuration: dict, noted: dict[str, Any], file_ending: str) -> None:
        super().__init__(configuration)
        self.noted, self.file_ending = noted, file_ending

    @property
    def preprocessor_class(self) -> type:
        """Return the class that notes."""
        noted, ending = self.noted, self.file_ending
        base: Any = super().preprocessor_class

        class NotingPreprocessor(base):
            def run_case(self, image_files: list[str], *others: Any) -> tuple:
                made = super().run_case(image_files, *others)
                noted.update(case=Path(image_files[0]).name[: -len(f"_0000{ending}")], properties=made[2])
                return made

        return NotingPreprocessor
