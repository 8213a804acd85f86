"""What `--uncertainty` writes: two maps of every case, and a row of `uncertainty.csv` for each of its labels."""

import csv
import io
from pathlib import Path

import numpy as np
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.evaluation.uncertainty import agreement
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.csv_cells import as_written, row_as_text
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.files.tables import other_columns, read_columns
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.prediction.native_geometry import with_geometry
from nnunet_xmodal.tasks.segmentation.attention_maps import map_on_case
from nnunet_xmodal.tasks.segmentation.fold_probabilities import CaseProbabilities

TABLE = "uncertainty"
"""`uncertainty.csv` beside the predictions, and the folder of the maps."""

FORECAST = "forecast_dice"
COLUMNS = ("case", "label", "folds", FORECAST, "entropy", "mutual_information")
"""Of the table: the forecast is the mean Dice between folds, the others are means over the label's voxels, in nats."""


MAPS = ("entropy", "mutual_information")


def map_files(case: Path) -> list[Path]:
    """Name the maps of a case, given by the folder of its prediction and its name."""
    return [case.parent / TABLE / f"{case.name}_{name}.nii.gz" for name in MAPS]


def write_uncertainty(
    found: CaseProbabilities, predictor: nnUNetPredictor, properties: dict, output: Path, case: str, part: str = ""
) -> None:
    """Write `uncertainty/<case>_entropy.nii.gz`, `…_mutual_information.nii.gz` and the case's rows of the table.

    Args:
        properties: what nnU-Net's reader and preprocessor have noted about the case.
        output: folder of the predictions.
        part: in the name of the table, for calls that share the cases.

    Raises:
        XModalError: if a file cannot be written.
    """
    (output / TABLE).mkdir(parents=True, exist_ok=True)
    for name, file in zip(MAPS, map_files(output / case)):
        volume = map_on_case(getattr(found, name), predictor, properties)
        write_volume(with_geometry(volume, properties), file)
    _add_rows(output / f"{TABLE}{part}.csv", case, rows_of(found, predictor, case))


def rows_of(found: CaseProbabilities, predictor: nnUNetPredictor, case: str) -> list[dict]:
    """Return a row per label, see `COLUMNS`; empty cells where nothing of it is predicted, or folds cannot disagree."""
    labels = foreground(predictor.dataset_json)
    forecasts = agreement(found.label_maps, labels)
    segmentation = np.asarray(predictor.label_manager.convert_probabilities_to_segmentation(found.mean))
    rows = []
    for label, values in labels.items():
        mask = np.isin(segmentation, values)
        means = {
            name: float(getattr(found, name).numpy()[mask].mean()) if mask.any() else float("nan") for name in MAPS
        }
        numbers = {FORECAST: forecasts[label], **means}
        written = {name: "" if np.isnan(number) else f"{number:.6g}" for name, number in numbers.items()}
        rows.append({"case": case, "label": label, "folds": len(found.label_maps), **written})
    return rows


def _add_rows(file: Path, case: str, rows: list[dict]) -> None:
    """Add the rows of a case to the table, in the place of those that an earlier call has left; what somebody has added
    to them in columns of their own stays.
    """
    headings = {name.lower(): name for name in (*COLUMNS, *other_columns(file, COLUMNS))}
    kept = read_columns(file, [name.lower() for name in COLUMNS]) if file.is_file() else []
    written = [{headings[name]: cell for name, cell in cells.items() if name in headings} for _, cells in kept]
    others = [row for row in written if as_written(row["case"]) != case]
    before = {as_written(row["label"]): row for row in written if as_written(row["case"]) == case}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(headings.values()), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([*others, *(before.get(row["label"], {}) | row_as_text(row) for row in rows)])

    def write(name: str) -> None:
        Path(name).write_text(text.getvalue(), encoding="utf-8")

    write_atomically(file, write)
