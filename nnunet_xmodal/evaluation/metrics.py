"""The metrics that are compared: what each means, its unit, and which way is better."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Direction = Literal["higher", "lower"]


COUNTS = frozenset(("TP", "FP", "FN", "TN", "n_pred", "n_ref"))
"""What nnU-Net's summaries hold beside metrics: numbers of voxels."""


@dataclass(frozen=True)
class Metric:
    """A metric: its meaning, its unit, and which way is better.

    Attributes:
        name: as in the tables' columns.
        better: which way is better; None for what is reported but never ranked or tested, such as a volume.
        kind: what an empty label does to it, see `evaluation/empty_labels.py`: "overlap" lies in [0, 1] and agrees at
            1, "error" at 0, "distance" is in mm and agrees at 0; None for what empty labels leave alone.
        unit: "" for numbers without one; "%" for fractions, which are stored as fractions and shown as percent.
        definition: one sentence for the report.
    """

    name: str
    better: Direction | None
    kind: Literal["overlap", "error", "distance"] | None = None
    unit: str = ""
    definition: str = ""

    @property
    def shown(self) -> str:
        """Return name and unit, as the header of a column of shown values."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    @property
    def scale(self) -> float:
        """Return the factor that turns a stored value into `unit`."""
        return 100.0 if self.unit == "%" else 1.0


_DETECTED = "any overlap: a lesion of one mask counts as found when it shares a voxel with the other mask"
_MATCHED = "one-to-one, as many pairs of lesions as possible with IoU ≥ the threshold"

SEGMENTATION_METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("Dice", "higher", "overlap", "%", "2|P∩R| / (|P|+|R|), P the prediction, R the reference"),
        Metric("IoU", "higher", "overlap", "%", "|P∩R| / |P∪R|"),
        Metric("sensitivity", "higher", "overlap", "%", "|P∩R| / |R|"),
        Metric("precision", "higher", "overlap", "%", "|P∩R| / |P|"),
        Metric("specificity", "higher", None, "%", "share of the voxels outside of R that are outside of P"),
        Metric("VOE", "lower", "error", "%", "volumetric overlap error, 1 − IoU"),
        Metric("RVD", None, "error", "%", "relative volume difference (|P|−|R|) / |R|, signed"),
        Metric("abs_RVD", "lower", "error", "%", "absolute value of RVD"),
        Metric("HD95", "lower", "distance", "mm", "the larger of the two 95th percentiles of surface distances"),
        Metric("ASSD", "lower", "distance", "mm", "mean of all surface distances of both directions, pooled"),
        Metric("NSD", "higher", "overlap", "%", "share of both surfaces that lies within the tolerance of the other"),
        Metric("volume_ml", None, None, "ml", "volume of the prediction"),
        Metric("reference_volume_ml", None, None, "ml", "volume of the reference"),
        Metric("lesion_sensitivity", "higher", "overlap", "%", f"share of lesions found; {_DETECTED}"),
        Metric("lesion_precision", "higher", "overlap", "%", f"share of predicted lesions that are real; {_DETECTED}"),
        Metric("lesion_F1", "higher", "overlap", "%", "harmonic mean of lesion_sensitivity and lesion_precision"),
        Metric("lesion_sensitivity_IoU", "higher", "overlap", "%", f"share of lesions found; {_MATCHED}"),
        Metric("lesion_precision_IoU", "higher", "overlap", "%", f"share of predictions that are real; {_MATCHED}"),
        Metric("lesion_F1_IoU", "higher", "overlap", "%", "2 matches / (lesions of both masks)"),
        Metric("lesions", None, None, "", "connected components of the prediction, 26 neighbours (8 in 2D)"),
        Metric("reference_lesions", None, None, "", "connected components of the reference"),
    )
}
