"""Pictures of the cases on which models differ most: image, reference, every prediction."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_xmodal.comparison.case_table import read_label_map, reference_file
from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import Overlay
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.evaluation.figures.cases import CasePanels, draw_cases, foreground_dice
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import ignore_label

_MOST_CHANNELS = 2  # beside the predictions, of which there may be many


def most_different(cases: pd.DataFrame, n: int) -> list[tuple[str, float]]:
    """Return cases by the range of their mean Dice over labels between models, largest first, with that range."""
    mean = cases.groupby(["case", "model"], sort=False)["Dice"].mean().unstack("model")
    spread = (mean.max(axis=1) - mean.min(axis=1)).sort_values(ascending=False, kind="stable")
    return [(case, float(value)) for case, value in spread.head(n).items() if value > 0]


def overlays(
    models: Sequence[ModelResults], cases: pd.DataFrame, references: Path | None, images: Path | None, n: int
) -> list[Overlay]:
    """Draw the cases on which the models differ most; what the reference ignores is left out, as it is in the tables.

    Args:
        cases: the table of cases, with a column Dice.
        images: nnU-Net's `imagesTr`, drawn beneath; None, or without the files of a case, leaves the ground black.
        n: how many at most; cases that all models segment alike are left out.
    """
    return [_overlay(models, case, spread, references, images) for case, spread in most_different(cases, n)]


def _overlay(
    models: Sequence[ModelResults], case: str, spread: float, references: Path | None, images: Path | None
) -> Overlay:
    dataset_json = models[0].dataset_json
    truth, geometry = read_label_map(reference_file(references, case, models[0]), dataset_json)
    truth = _volume(truth)
    ignore = ignore_label(dataset_json)
    judged = np.ones(truth.shape, bool) if ignore is None else truth != ignore
    truth = np.where(judged, truth, 0)
    predictions = {
        model.name: np.where(judged, _volume(read_label_map(prediction, dataset_json)[0]), 0)
        for model in models
        if (prediction := model.cases[case].prediction) is not None
    }
    z = _most_disputed(truth, list(predictions.values()))
    y_mm, x_mm = geometry["spacing"][-2:]
    panels = CasePanels(
        name=f"slice {z}",
        channels={name: image[z] for name, image in _channels(images, case, dataset_json, truth.shape).items()},
        truth=truth[z],
        predictions={name: volume[z] for name, volume in predictions.items()},
        dice={name: foreground_dice(volume, truth) for name, volume in predictions.items()},
        aspect=float(y_mm / x_mm),
    )
    png = BytesIO()
    draw_cases([panels], png)
    fold = models[0].cases[case].fold
    where = f"fold {fold}, " if fold else ""
    return Overlay(f"{case}, {where}slice {z}: mean Dice differs by {100 * spread:.1f} points", png.getvalue(), case)


def _most_disputed(truth: np.ndarray, predictions: Sequence[np.ndarray]) -> int:
    """Return the slice `z` in which most voxels are labelled otherwise than in the reference, over all models."""
    return int(sum((prediction != truth).sum((1, 2)) for prediction in predictions).argmax())


def _channels(images: Path | None, case: str, dataset_json: dict, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Read name → `(z, y, x)` of the first channels that lie on the grid of the label map."""
    names = distinct_channel_names(dataset_json)
    found = {}
    for channel, name in enumerate(names[:_MOST_CHANNELS]):
        file = None if images is None else images / f"{case}_{channel:04d}{dataset_json['file_ending']}"
        if file is not None and file.is_file():
            image = _volume(read_image(file, dataset_json, is_label=False)[0][0])
            if image.shape == shape:
                found[name] = image
    return found or {"no image": np.zeros(shape, dtype=np.uint8)}


def _volume(array: np.ndarray) -> np.ndarray:
    """`(z, y, x)`, with an axis z of size 1 for a file of one slice."""
    return array.reshape(-1, *array.shape[-2:])
