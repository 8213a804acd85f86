"""Pages of the viewer for the cases that a report draws."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from nnunet_xmodal.comparison.case_table import reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import Overlay
from nnunet_xmodal.datasets.cases import SEVERAL_CHANNELS_IN_A_FILE, files_by_channel
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.viewing.case_panels import CaseFiles
from nnunet_xmodal.viewing.niivue import widget
from nnunet_xmodal.viewing.panels import MOST_PANELS
from nnunet_xmodal.viewing.run import write_page

FOLDER = "view"
"""Of the pages, beside the report."""


def with_pages(
    overlays: Sequence[Overlay],
    models: Sequence[ModelResults],
    references: Path | None,
    images: Path | None,
    output: Path,
) -> list[Overlay]:
    """Write `view/<case>.html` for every case that is drawn, and return the pictures with their pages.

    Probabilities that lie beside predictions are shown, too, as far as there are panels for those of all models.

    Args:
        images: nnU-Net's `imagesTr`, shown beneath; None, or without the files of a case, shows label maps alone.
        output: folder of the report.

    Raises:
        XModalError: see `viewing.run.write_page`.
    """
    (output / FOLDER).mkdir(parents=True, exist_ok=True)
    dataset_json = models[0].dataset_json
    channels = files_by_channel(images, dataset_json["file_ending"]) if images is not None and images.is_dir() else {}
    reference = next(name for name in ("reference", "reference label map") if name not in [m.name for m in models])
    shown = []
    for overlay in overlays:
        of_case = channels.get(overlay.case, {})
        predictions = {
            model.name: file for model in models if (file := model.cases[overlay.case].prediction) is not None
        }
        images_of_case = [of_case[number] for number in sorted(of_case)]
        at_once = 1  # channels that are drawn with the first file, or not at all
        if dataset_json["file_ending"] in SEVERAL_CHANNELS_IN_A_FILE and len(images_of_case) == 1:
            at_once = len(channel_names_of(dataset_json))
        probabilities = _that_fit(
            _probabilities(overlay.case, predictions), at_once + 1 + len(predictions), dataset_json
        )
        left = MOST_PANELS - 1 - len(predictions) - len(probabilities) * len(foreground(dataset_json))
        files = CaseFiles(
            overlay.case,
            images=images_of_case[: max(0, left // at_once)],
            label_maps={reference: reference_file(references, overlay.case, models[0])} | predictions,
            probabilities=probabilities,
        )
        page = write_page(files, dataset_json, output / FOLDER)
        shown.append(replace(overlay, page=f"{FOLDER}/{quote(os.fsencode(page.name))}"))
    return shown


def _probabilities(case: str, predictions: Mapping[str, Path]) -> dict[str, Path]:
    """Return model → the `.npz` that lies beside its prediction, as `--npz` and `--save_probabilities` leave it."""
    files = {name: prediction.with_name(f"{case}.npz") for name, prediction in predictions.items()}
    return {name: file for name, file in files.items() if file.is_file()}


def _that_fit(probabilities: dict[str, Path], others: int, dataset_json: dict) -> dict[str, Path]:
    """Return all of them or, where a browser could not draw them beside so many other panels, none."""
    panels = others + len(probabilities) * len(foreground(dataset_json))
    return probabilities if panels <= MOST_PANELS else {}


def check_viewable(models: Sequence[ModelResults]) -> None:
    """Check that pages can be made: the viewer is there, and a browser can draw so many models beside an image.

    Raises:
        XModalError: if not.
    """
    widget()
    if len(models) + 2 > MOST_PANELS:
        raise XModalError(f"--viewer shows {MOST_PANELS - 2} models side by side, and these are {len(models)}.")
