"""Pages of the viewer for the cases that a report draws."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from nnunet_xmodal.comparison.case_table import reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import Overlay
from nnunet_xmodal.viewing.case_panels import CaseFiles
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
    shown = []
    for overlay in overlays:
        predictions = {model.name: model.cases[overlay.case].prediction for model in models}
        files = CaseFiles(
            overlay.case,
            images=sorted(images.glob(f"{overlay.case}_[0-9][0-9][0-9][0-9]{dataset_json['file_ending']}"))
            if images is not None
            else (),
            label_maps={"reference": reference_file(references, overlay.case, models[0])}
            | {name: file for name, file in predictions.items() if file is not None},
        )
        page = write_page(files, dataset_json, output / FOLDER)
        shown.append(replace(overlay, page=f"{FOLDER}/{quote(page.name)}"))
    return shown
