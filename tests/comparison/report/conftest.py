"""A small comparison with everything in it."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.comparison.report.contents import Curve, Overlay, ReportContents
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS
from nnunet_xmodal.evaluation.statistics import compare_all
from nnunet_xmodal.evaluation.summary import summarise

METRICS = {name: SEGMENTATION_METRICS[name] for name in ("Dice", "RVD", "HD95", "volume_ml", "lesion_F1")}
MODELS = ("nnUNetTrainer", "nnUNetTrainerCSAD", "nnUNetTrainerCSFP_250epochs")


def cases_of(models=MODELS, labels=("whole tumour", "tumour core"), n=12, metrics=METRICS, case="case_{}"):
    """Random but reproducible; the last case of the last label has no reference."""
    rng = np.random.default_rng(0)
    index = [(model, label, number) for model in models for label in labels for number in range(n)]
    table = pd.DataFrame(index, columns=["model", "label", "case"])
    number = table["case"].to_numpy()
    table["case"] = [case.format(i) for i in number]
    table["subject"], table["fold"] = table["case"], (number % 3).astype(str)
    table["empty"] = np.where((number == n - 1) & (table["label"] == labels[-1]), "reference", "")
    for name, metric in metrics.items():
        table[name] = rng.uniform(0, 1, len(table)) * (20 if metric.unit in ("mm", "ml") else 1)
        if metric.kind == "distance":
            table.loc[table["empty"] != "", name] = np.nan
    return table[["model", "fold", "case", "subject", "label", "empty", *metrics]]


def contents_of(cases=None, metrics=METRICS, **changes):
    """Of `cases_of`, unless told otherwise."""
    cases = cases_of(metrics=metrics) if cases is None else cases
    models = list(pd.unique(cases["model"]))
    rng = np.random.default_rng(0)
    curves = {
        model: {
            fold: Curve(
                range(20), -rng.random(20), -rng.random(20), [*rng.random(19), float("nan")], rng.uniform(50, 60, 20)
            )
            for fold in "012"
        }
        for model in models
    }
    cost = {
        "model": models,
        "parameters": 30.8e6,
        "flops": 1.5e12,
        "seconds_per_epoch": [float("nan"), *rng.uniform(50, 90, len(models) - 1)],
        "seconds_per_case": 4.2,
    }
    given = {
        "title": "Two streams against one",
        "facts": {"dataset": "Dataset137_Brains", "folds": "0, 1, 2"},
        "notes": ["Fold 3 is missing for nnUNetTrainerCSAD."],
        "models": models,
        "metrics": metrics,
        "cases": cases,
        "summary": summarise(cases, metrics),
        "statistics": compare_all(cases, metrics),
        "detection": pd.DataFrame({"model": models, "label": "whole tumour", "lesion_AP": 0.61}),
        "cost": pd.DataFrame(cost),
        "curves": curves,
        "overlays": [Overlay("case_3: Dice of the tumour core", _png())],
    }
    return ReportContents(**{**given, **changes})


def _png() -> bytes:
    figure, file = Figure(figsize=(2, 1)), io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(file, format="png")
    return file.getvalue()


@pytest.fixture(scope="session")
def make_cases():
    return cases_of


@pytest.fixture(scope="session")
def make_contents():
    return contents_of


@pytest.fixture(scope="session")
def contents():
    return contents_of()
