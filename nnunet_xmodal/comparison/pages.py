"""Pages of the viewer for the cases that a report draws."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from nnunet_xmodal.comparison.case_table import reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import Overlay
from nnunet_xmodal.datasets.checks import files_by_channel
from nnunet_xmodal.errors import XModalError
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
        predictions = {model.name: model.cases[overlay.case].prediction for model in models}
        files = CaseFiles(
            overlay.case,
            images=[of_case[number] for number in sorted(of_case)][: MOST_PANELS - 1 - len(models)],
            label_maps={reference: reference_file(references, overlay.case, models[0])}
            | {name: file for name, file in predictions.items() if file is not None},
        )
        page = write_page(files, dataset_json, output / FOLDER)
        shown.append(replace(overlay, page=f"{FOLDER}/{quote(os.fsencode(page.name))}"))
    return shown


def check_viewable(models: Sequence[ModelResults]) -> None:
    """Check that pages can be made: the viewer is there, and a browser can draw so many models beside an image.

    Raises:
        XModalError: if not.
    """
    widget()
    if len(models) + 2 > MOST_PANELS:
        raise XModalError(f"--viewer shows {MOST_PANELS - 2} models side by side, and these are {len(models)}.")
