"""What an explanation leaves: tables, bar charts, maps as NIfTI and as overlays."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.evaluation.figures.cases import clearest_slice
from nnunet_xmodal.evaluation.figures.heat import HeatPanel, draw_heat
from nnunet_xmodal.evaluation.figures.shapley_bars import Bars, draw_bars
from nnunet_xmodal.evaluation.shapley import subsets
from nnunet_xmodal.evaluation.statistics import interval_of_mean
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.csv_cells import table_as_text
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.prediction.native_geometry import with_geometry
from nnunet_xmodal.tasks.segmentation.explanation_maps import HeatMap
from nnunet_xmodal.tasks.segmentation.shapley_of_case import DICE, Shares

_MEASURES = {"volume_ml": (1.0, "ml of the prediction"), DICE: (100.0, "points of Dice")}
"""Measure → factor and axis of a chart."""


@dataclass(frozen=True)
class ExplainedCase:
    """A case and all that is told of it.

    Attributes:
        case: its files.
        players: names of the streams or channels.
        shares: per label and measure; empty without Shapley values.
        maps: see `HeatMap`.
        segmentation: label map `(z, y, x)` on the grid that the case was read on.
        labels: name → values.
        properties: what nnU-Net's reader and preprocessor have noted about the case.
    """

    case: Case
    players: Sequence[str]
    shares: Sequence[Shares]
    maps: Sequence[HeatMap]
    segmentation: np.ndarray
    labels: Mapping[str, tuple[int, ...]]
    properties: dict


class ExplanationFiles:
    """Files of a folder, written case by case; tables and the dataset's chart always hold all cases so far."""

    def __init__(self, folder: Path, predictor: nnUNetPredictor) -> None:
        self.folder, self.predictor = Path(folder), predictor
        self._values: list[dict] = []
        self._worths: list[dict] = []

    def write(self, explained: ExplainedCase) -> None:
        """Write what is told of one more case.

        Raises:
            XModalError: if a file cannot be written.
        """
        name = explained.case.name
        self.folder.mkdir(parents=True, exist_ok=True)
        if explained.shares:
            self._values += value_rows(name, explained.players, explained.shares)
            self._worths += worth_rows(name, explained.players, explained.shares)
            panels = [_bars(explained.players, share) for share in explained.shares]
            self._figure(f"{name}_shapley.png", lambda file: draw_bars(panels, file, name))
            self._write_tables(explained.players)
        for heat in explained.maps:
            (self.folder / heat.kind).mkdir(exist_ok=True)
            what = re.sub(r"[\\/]", "_", heat.name)  # of a label that is called edema/necrosis
            file = self.folder / heat.kind / f"{name}_{what}.nii.gz"
            write_volume(with_geometry(heat.volume, explained.properties), file)
        for kind in dict.fromkeys(heat.kind for heat in explained.maps):
            self._draw_maps(explained, kind)

    def _write_tables(self, players: Sequence[str]) -> None:
        values = pd.DataFrame(self._values)
        summary = summarised(values)
        tables = {"shapley": values, "shapley_summary": summary, "shapley_subsets": pd.DataFrame(self._worths)}
        for name, table in tables.items():
            text = table_as_text(table).to_csv(index=False, lineterminator="\n")
            _write_text(text, self.folder / f"{name}.csv")
        panels = []
        for (label, measure), rows in summary.groupby(["label", "measure"], sort=False):
            factor, axis = _MEASURES[measure]
            bounds = factor * rows[["low", "high"]].to_numpy(float)
            means = factor * rows["mean"].to_numpy(float)
            panels.append(Bars(f"{label}: {measure}", f"{axis}, mean and 95 % interval", players, means, bounds))
        cases = values["case"].nunique()
        self._figure("shapley.png", lambda file: draw_bars(panels, file, f"{cases} case{'s' if cases > 1 else ''}"))

    def _draw_maps(self, explained: ExplainedCase, kind: str) -> None:
        reader = self.predictor.plans_manager.image_reader_writer_class()
        images, properties = reader.read_images([str(file) for file in explained.case.images])
        segmentation = explained.segmentation
        wanted = np.isin(segmentation, [value for values in explained.labels.values() for value in values])
        z = clearest_slice(wanted if wanted.any() else None, segmentation)
        panels = []
        for heat in explained.maps:
            if heat.kind == kind:
                mask = wanted if heat.label is None else np.isin(segmentation, explained.labels[heat.label])
                panels.append(HeatPanel(heat.title, images[heat.channel, z], heat.volume[z], mask[z]))
        _, y_mm, x_mm = properties["spacing"]
        file = f"{explained.case.name}_{kind}.png"
        self._figure(file, lambda name: draw_heat(panels, float(y_mm / x_mm), name))

    def _figure(self, name: str, draw: Callable[[str], None]) -> None:
        write_atomically(self.folder / name, draw)


def value_rows(case: str, players: Sequence[str], shares: Sequence[Shares]) -> list[dict]:
    """Return rows of shapley.csv: a player of a measure of a label, its value and its credit."""
    return [
        {
            "case": case,
            "label": share.label,
            "measure": share.measure,
            "player": player,
            "value": value,
            "credit": credit,
            "with_all": share.worth[-1],
            "with_none": share.worth[0],
        }
        for share in shares
        for player, value, credit in zip(players, share.values, share.credit)
    ]


def worth_rows(case: str, players: Sequence[str], shares: Sequence[Shares]) -> list[dict]:
    """Return rows of shapley_subsets.csv: what is measured on the prediction from each set of players."""
    return [
        {
            "case": case,
            "label": share.label,
            "measure": share.measure,
            "given": " ".join(name for name, there in zip(players, given) if there) or "nothing",
            "worth": worth,
        }
        for share in shares
        for given, worth in zip(subsets(len(players)), share.worth)
    ]


def summarised(values: pd.DataFrame) -> pd.DataFrame:
    """Return, per label, measure and player, the mean over the cases and its bootstrap 95 % interval.

    Args:
        values: rows of `value_rows`.

    Returns:
        Columns label, measure, player, n (cases of which it is defined), mean, low, high, credit (the mean over cases),
        credit_low, credit_high.
    """
    rows = []
    for (label, measure, player), of_player in values.groupby(["label", "measure", "player"], sort=False):
        numbers: dict[str, float] = {"n": int(of_player["value"].notna().sum())}
        for column, prefix in (("value", ""), ("credit", "credit_")):
            low, high = interval_of_mean(of_player[column])
            numbers |= {"mean" if not prefix else "credit": of_player[column].mean()}
            numbers |= {f"{prefix}low": low, f"{prefix}high": high}
        rows.append({"label": label, "measure": measure, "player": player, **numbers})
    return pd.DataFrame(rows)


def _bars(players: Sequence[str], share: Shares) -> Bars:
    factor, axis = _MEASURES[share.measure]
    unit = "points" if share.measure == DICE else "ml"
    title = f"{share.label}: {share.measure}, {factor * share.worth[-1]:.3g} {unit} with all"
    return Bars(title, axis, players, factor * share.values)


def _write_text(text: str, file: Path) -> None:
    def write(name: str) -> None:
        Path(name).write_text(text, encoding="utf-8")

    write_atomically(file, write)
