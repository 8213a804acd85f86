"""What a report is made of, however it is written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS, Metric

MAIN = ("Dice", "HD95", "lesion_F1")
"""Overlap, distance and detection: of segmentations these come first."""

_MOST_MAIN = 6  # columns that fit a page


@dataclass
class Curve:
    """The training of one fold; lists as long as `epoch`, NaN where the log has nothing, empty where it never has.

    Attributes:
        pseudo_dice: mean over labels, as a fraction.
        seconds: per epoch.
    """

    epoch: Sequence[float]
    train_loss: Sequence[float] = ()
    val_loss: Sequence[float] = ()
    pseudo_dice: Sequence[float] = ()
    seconds: Sequence[float] = ()


@dataclass
class Overlay:
    """A picture of a case.

    Attributes:
        caption: what it shows.
        png: the picture.
        case: its name.
        page: the viewer's page of the case, relative to the report; None without one.
    """

    caption: str
    png: bytes
    case: str = ""
    page: str | None = None


@dataclass
class ReportContents:
    """Everything that a report shows.

    Attributes:
        title: of the report.
        facts: dataset, configuration, folds, empty-label rule, tolerances, …: name → value.
        notes: what was left out, and other sentences that a reader must know.
        models: in the order of the tables.
        metrics: the metric columns of `cases`.
        cases: one row per model × fold × case × label, see `summary.summarise`.
        summary: of `summary.summarise`.
        statistics: of `statistics.compare_all`.
        detection: any table, a model per row.
        presence: of `presence.presence_table`.
        reliability: of `calibration_table`, the bins of the reliability diagrams.
        forecast: of `forecast_table`.
        cost: columns model, parameters, flops, seconds_per_epoch, seconds_per_case; NaN where unknown.
        curves: model → fold → its training.
        overlays: of the cases on which the models differ most.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    models: Sequence[str]
    metrics: Mapping[str, Metric]
    cases: pd.DataFrame
    summary: pd.DataFrame
    statistics: pd.DataFrame
    detection: pd.DataFrame | None = None
    presence: pd.DataFrame | None = None
    reliability: pd.DataFrame | None = None
    forecast: pd.DataFrame | None = None
    cost: pd.DataFrame | None = None
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    overlays: Sequence[Overlay] = ()

    @property
    def labels(self) -> list[str]:
        """Return the labels of the cases, in the order of their appearance."""
        return list(pd.unique(self.cases["label"]))

    @property
    def main_metrics(self) -> list[Metric]:
        """Return the metrics of the tables that are read first.

        For segmentations these are `MAIN` and what their trainers measure besides; for others the first metric that can
        be ranked.
        """
        ranked = [metric for metric in self.metrics.values() if metric.better is not None]
        if all(name in self.metrics for name in MAIN[:2]):  # a registration has a Dice, too, but is judged by more
            main = [self.metrics[name] for name in MAIN if name in self.metrics]
            return (main + [metric for metric in ranked if metric.name not in SEGMENTATION_METRICS])[:_MOST_MAIN]
        return (ranked or list(self.metrics.values()))[:_MOST_MAIN]
