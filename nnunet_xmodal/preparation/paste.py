"""`nnUNetXModal_paste`: what was computed on the cropped images of a prepared dataset, on their whole grids."""

import os
import re
from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.folders import check_apart, check_input_folder, check_output_folder
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.geometry.organ_crop import empty_grid, paste_back
from nnunet_xmodal.preparation.dataset_json import FILE_ENDING
from nnunet_xmodal.preparation.record import Record, read_records


def paste_folder(predictions: Path, dataset: str, output: Path, overwrite: bool = False) -> list[Path]:
    """Paste every `<case>.nii.gz`, or `<case>_<four digits>.nii.gz`, of a folder onto the case's whole grid.

    Args:
        dataset: in nnUNet_raw, by name or number, prepared here: its records know the grids.

    Returns:
        The files that were written.

    Raises:
        XModalError: before anything is written, for a dataset that was not prepared here, a folder without predictions,
            one of a case that the dataset has not, an output that is the folder of the predictions, and files that
            exist; later for a file that cannot be read or is no
            part of the whole image (see `paste_back`).
    """
    require_variables("nnUNet_raw")
    folder = _dataset_folder(dataset)
    records = read_records(folder)
    if not records:
        raise XModalError(
            f"{folder} was not made by nnUNetXModal_prepare: the grids of the whole images are not known."
        )
    check_input_folder(predictions)
    check_output_folder(output)
    check_apart(output, {"-i": predictions})
    files = [file for file in sorted(predictions.glob(f"*{FILE_ENDING}")) if not file.name.startswith(".")]
    if not files:
        raise XModalError(f"the folder {predictions} holds no files that end in {FILE_ENDING}.")
    grids = {file: _grid(file, records, folder) for file in files}
    for file in files:
        if (output / file.name).exists() and not overwrite:
            raise XModalError(f"{output / file.name} exists: give another folder, or --overwrite.")
    with claimed(output):
        for file, grid in grids.items():
            paste_file(file, empty_grid(**grid), output / file.name)
    return [output / file.name for file in files]


def paste_file(cropped: Path, full: sitk.Image, output: Path) -> None:
    """Read a file, paste it back and write it.

    Raises:
        XModalError: see `paste_back` and `scan.read_volume_file`.
    """
    image = read_volume_file(cropped).image
    try:
        pasted = paste_back(image, full)
    except XModalError as error:
        raise XModalError(f"{cropped}: {error}") from error
    write_volume(pasted, output, compress=True)


def _dataset_folder(dataset: str) -> Path:
    raw = Path(os.environ["nnUNet_raw"])
    if not dataset.isdecimal():
        found = [raw / dataset]
    else:
        found = sorted(raw.glob(f"Dataset{int(dataset):03d}_*"))
    if len(found) != 1 or not found[0].is_dir():
        raise XModalError(f"-d {dataset} names no dataset in {raw}, or several: give the full name.")
    return found[0]


def _grid(file: Path, records: dict[str, Record], dataset: Path) -> dict:
    name = file.name[: -len(FILE_ENDING)]
    record = records.get(name) or records.get(re.sub(r"_\d{4}$", "", name))
    if record is None or record.grid is None:
        raise XModalError(f"{file} is of no case that {dataset.name} holds: take it out, or give its own dataset.")
    return record.grid
