"""How the folds of a model were trained, from their logs."""

from collections.abc import Sequence

import numpy as np

from nnunet_xmodal.comparison.cross_validation import ModelResults
from nnunet_xmodal.comparison.report.contents import Curve
from nnunet_xmodal.files.training_log import read_training_log


def curves(model: ModelResults) -> dict[str, Curve]:
    """Read how each fold was trained, for folds that left a log."""
    found = {}
    for fold in model.folds:
        epochs = read_training_log(model.folder / f"fold_{fold}").completed
        if epochs:
            found[fold] = Curve(
                epoch=[epoch.number for epoch in epochs],
                train_loss=[_or_nan(epoch.train_loss) for epoch in epochs],
                val_loss=[_or_nan(epoch.val_loss) for epoch in epochs],
                pseudo_dice=[_nanmean(epoch.pseudo_dice) for epoch in epochs],
                seconds=[_or_nan(epoch.seconds) for epoch in epochs],
            )
    return found


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _nanmean(values: Sequence[float]) -> float:
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else np.nan
