"""What becomes of the metrics of a case whose reference or prediction lacks a label.

Most metrics are 0/0 or a distance to nothing there. Two rules are in use:

- "nan", nnU-Net's: what is undefined stays NaN and is left out of means and tests. Precision is then a mean over other
  cases than sensitivity, and a tumour that is missed entirely costs no distance at all.
- "brats", of the BraTS challenges: an empty prediction of an empty reference is perfect (overlaps 1, errors and
  distances 0); anything else at which one mask is empty is as bad as can be (overlaps 0, distances 373.13 mm).

373.12866 mm is √(240² + 240² + 155²), the diagonal of a BraTS volume of 240×240×155 voxels of 1 mm: the HD95 of a label
that only one of the masks has, in nnU-Net's re-implementation of the ranking of 2020 (Isensee et al., nnU-Net for Brain
Tumor Segmentation, 2021). Here it stands for every distance, and for images of
any size, so that tables can be compared. (BraTS 2023 scores lesions one by one: another metric, not another rule.)

Neither rule touches volumes, lesion counts and specificity, which are defined for empty masks. RVD and |RVD| stay NaN
where the reference alone is empty: no number is as bad as can be.
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.empty_rules import EMPTY_RULES
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS, Metric

BRATS_DISTANCE_MM = math.sqrt(240**2 + 240**2 + 155**2)

_BOTH_EMPTY = {"overlap": 1.0, "error": 0.0, "distance": 0.0}
_ONE_EMPTY = {"overlap": 0.0, "distance": BRATS_DISTANCE_MM}


def empty_states(volume: pd.Series, reference_volume: pd.Series) -> pd.Series:
    """Name the empty mask by the volumes of both: "both", "reference", "prediction", or "" for neither.

    A mask whose volume is NaN, because a result has none, counts as not empty.
    """
    without_prediction, without_reference = volume == 0, reference_volume == 0
    states = np.select(
        [without_prediction & without_reference, without_reference, without_prediction],
        ["both", "reference", "prediction"],
        default="",
    )
    return pd.Series(states, index=volume.index)


def with_rule(cases: pd.DataFrame, rule: str, metrics: Mapping[str, Metric] = SEGMENTATION_METRICS) -> pd.DataFrame:
    """Return a copy of the table with the rule applied, and with a column `empty`, see `empty_states`.

    Args:
        cases: one row per case and label, a column per metric as `case_metrics` returns them, NaN where undefined.
            Columns of metrics that are missing are no error; without the two volumes, no row counts as empty.
        rule: one of EMPTY_RULES.
        metrics: what the columns mean; `Metric.kind` decides what the rule does to them.

    Raises:
        XModalError: for a rule that does not exist.
    """
    if rule not in EMPTY_RULES:
        raise XModalError(f"There is no rule {rule!r} for empty labels: choose one of {', '.join(EMPTY_RULES)}.")
    cases = cases.copy()
    if {"volume_ml", "reference_volume_ml"} <= set(cases.columns):
        cases["empty"] = empty_states(cases["volume_ml"], cases["reference_volume_ml"])
    else:
        cases["empty"] = ""
    if rule == "brats":
        both = cases["empty"] == "both"
        one = cases["empty"].isin(("reference", "prediction"))
        for name, metric in metrics.items():
            if name in cases.columns and metric.kind is not None:
                cases[name] = cases[name].mask(both, _BOTH_EMPTY[metric.kind])
                if metric.kind in _ONE_EMPTY:  # of the errors, VOE is 1 by its own definition
                    cases[name] = cases[name].mask(one, _ONE_EMPTY[metric.kind])
    return cases
