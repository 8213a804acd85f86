"""Exact Shapley values of a case: predicted from every set of its streams or channels, measured, shared out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.evaluation.case_metrics import voxel_volume_ml
from nnunet_xmodal.evaluation.shapley import credit, shapley_values, subsets
from nnunet_xmodal.tasks.segmentation.players import Players, with_players_only

VOLUME, DICE = "volume_ml", "Dice"


@dataclass(frozen=True)
class Shares:
    """What each player brings to one measure of one label of one case.

    Attributes:
        label: its name.
        measure: `volume_ml`, of the prediction, or `Dice`, with the reference.
        worth: `(2ⁿ,)`, in the order of `shapley.subsets`.
    """

    label: str
    measure: str
    worth: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """Return the Shapley values `(n,)`, in the unit of the measure."""
        return shapley_values(self.worth)

    @property
    def credit(self) -> np.ndarray:
        """Return each player's part of all that was moved, `(n,)`; NaN where nothing moves."""
        return credit(self.values)


def segmentations_of_subsets(
    predictor: nnUNetPredictor, players: Players, image: torch.Tensor, properties: dict
) -> Iterator[np.ndarray]:
    """Yield the label map `(z, y, x)` predicted from each set of players, in the order of `shapley.subsets`.

    The model that knows absent streams predicts nothing of none. Label maps lie along the axes of the predictor's
    reader.

    Args:
        image: `(C, *spatial)` preprocessed, of the whole case.
        properties: what nnU-Net's reader and preprocessor have noted about it.
    """
    for given in subsets(len(players.names)):
        if players.streams and not any(given):
            shape = properties["shape_before_cropping"]
            yield np.zeros([shape[axis] for axis in predictor.plans_manager.transpose_backward], np.uint8)
            continue
        with with_players_only(predictor, players, given, image) as seen:
            yield segmentation_of(predictor, seen, properties)


def segmentation_of(predictor: nnUNetPredictor, image: torch.Tensor, properties: dict) -> np.ndarray:
    """Predict a preprocessed case `(C, *spatial)`: its label map `(z, y, x)` along the axes of the reader."""
    logits = predictor.predict_logits_from_preprocessed_data(image).cpu()
    return np.asarray(
        convert_predicted_logits_to_segmentation_with_correct_shape(
            logits,
            predictor.plans_manager,
            predictor.configuration_manager,
            predictor.label_manager,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )
    )


def shares_of(
    segmentations: Sequence[np.ndarray],
    labels: Mapping[str, tuple[int, ...]],
    spacing: Sequence[float],
    reference: np.ndarray | None = None,
    ignore: int | None = None,
) -> list[Shares]:
    """Measure label maps predicted from every set of players.

    Args:
        segmentations: 2ⁿ label maps `(z, y, x)`, in the order of `shapley.subsets`.
        labels: name → values of the label maps.
        spacing: mm along z, y, x; 999 for the axis that a 2D image has not.
        reference: label map on the same grid; without one there is no Dice.
        ignore: value of the reference of which nothing is counted in the Dice.

    Returns:
        Per label the volume in ml, then the Dice, which is undefined (NaN) where the reference lacks the label.
    """
    voxel_ml = voxel_volume_ml(spacing)
    counted = None if reference is None or ignore is None else reference != ignore
    found = []
    for label, values in labels.items():
        masks = [np.isin(segmentation, values) for segmentation in segmentations]
        found.append(Shares(label, VOLUME, np.array([mask.sum() * voxel_ml for mask in masks])))
        if reference is not None:
            true = np.isin(reference, values)
            if counted is not None:
                true, masks = true & counted, [mask & counted for mask in masks]
            found.append(Shares(label, DICE, np.array([_dice(mask, true) for mask in masks])))
    return found


def _dice(mask: np.ndarray, true: np.ndarray) -> float:
    if not true.any():
        return float("nan")
    return float(2 * np.count_nonzero(mask & true) / (np.count_nonzero(mask) + np.count_nonzero(true)))
