"""Tables in markdown, readable as plain text too: what of a comparison pastes into a paper."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.comparison.report.numbers import (
    MISSING,
    arrow,
    difference_name,
    p_value,
    seconds,
    with_interval,
    with_prefix,
)
from nnunet_xmodal.comparison.report.scores import EXPLAINED, score_tables
from nnunet_xmodal.evaluation.metrics import Metric

_MOST_MODELS = 6  # 15 pairs; more comparisons than that are for statistics.csv

COST = {
    "parameters": ("parameters", with_prefix),
    "flops": ("FLOPs of a patch", with_prefix),
    "seconds_per_epoch": ("s per epoch", seconds),
    "seconds_per_case": ("s per predicted case", seconds),
}
"""Column of `ReportContents.cost` → header, and how its numbers are shown."""


def markdown(contents: ReportContents) -> str:
    """Return all of summary.md: scores per label, comparisons of pairs, cost, facts, notes and definitions."""
    sections = [f"# {_text(contents.title)}", "## Scores", *scores(contents), *_comparisons(contents)]
    for title, table, shown_as in small_tables(contents):
        sections += [f"## {title}", frame_table(table, shown_as)]
    sections += ["## Facts", _items(f"{name}: {value}" for name, value in contents.facts.items())]
    if contents.notes:
        sections += ["## Notes", _items(contents.notes)]
    defined = (f"{m.name}{arrow(m)}: {m.definition}" for m in contents.metrics.values() if m.definition)
    definitions = _items(defined)
    if definitions:
        sections += ["## Definitions", definitions]
    return "\n\n".join(section for section in sections if section) + "\n"


def small_tables(contents: ReportContents) -> Iterator[tuple[str, pd.DataFrame, dict]]:
    """Yield the tables beside the scores that there are: title, table, and how its columns are shown, as `COST`."""
    tables: tuple[tuple[str, pd.DataFrame | None, dict], ...] = (
        ("By presence", contents.presence, {}),
        ("Detection", contents.detection, {}),
        ("Forecast", contents.forecast, {}),
        ("Cost", contents.cost, COST),
    )
    for title, table, shown_as in tables:
        if table is not None and len(table):
            yield title, table, shown_as


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """Return a table whose first columns are text, set to the left, and whose others are numbers, set to the right."""
    table = [[_text(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    sides = ["<" if column < text_columns else ">" for column in range(len(header))]
    head, *body = (
        "| " + " | ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths)) + " |"
        for row in table
    )
    rules = ("-" * (width + 1) + ("-" if side == "<" else ":") for side, width in zip(sides, widths))
    return "\n".join([head, f"|{'|'.join(rules)}|", *body])


def frame_table(table: pd.DataFrame, shown_as: dict) -> str:
    """Return any table in markdown; `shown_as` maps columns to headers and formats, as `COST`."""
    header = [shown_as.get(column, (str(column),))[0] for column in table]
    formats = [shown_as.get(column) for column in table]
    rows = [[cell_text(value, style) for value, style in zip(row, formats)] for row in table.to_numpy(object)]
    texts = sum(not pd.api.types.is_numeric_dtype(table[column]) for column in table)
    return markdown_table(header, rows, text_columns=max(1, texts))


def cell_text(value: Any, shown_as: tuple | None = None) -> str:
    """Return one value of any table as text."""
    if value is None or pd.isna(value):
        return MISSING
    if shown_as:
        return shown_as[1](float(value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def scores(contents: ReportContents) -> Iterator[str]:
    """Yield paragraphs: what the tables show, then per label a heading, a table and what it leaves out."""
    yield EXPLAINED
    for table in score_tables(contents):
        yield f"### {_text(table.label)}"
        rows = [
            [row.model, *(_Bold(score.text) if score.best else score.text for score in row.scores)]
            + [str(count) for count in (row.cases, row.empty, row.folds)]
            for row in table.rows
        ]
        yield markdown_table(table.header, rows)
        yield _text(table.left_out)


def _comparisons(contents: ReportContents) -> Iterator[str]:
    names = [metric.name for metric in contents.main_metrics]
    compared = contents.statistics[contents.statistics["metric"].isin(names)]
    if compared.empty:
        return
    yield "## Comparisons"
    many = len(contents.models) > _MOST_MODELS
    if many:
        yield f"There are too many pairs of {len(contents.models)} models to print: see statistics.csv and report.html."
    else:
        yield _PAIRS_EXPLAINED
    for label, of_label in compared.groupby("label", sort=False):
        yield f"### {_text(str(label))}, compared"
        if not many:
            yield _pairs(of_label[of_label["test"] == "wilcoxon"], contents)
        overall = of_label[of_label["test"] == "friedman"]
        if len(overall):
            yield "All models together: Friedman's test, and mean ranks (1 is best)."
            yield _ranks(overall, contents)


_PAIRS_EXPLAINED = (
    "Differences A − B of paired units with bootstrap 95 % intervals (pp: percentage points); p of Wilcoxon's "
    "signed-rank test, and p corrected by Holm over all pairs of models within the label and metric; units on which A "
    "is better, equal, worse."
)


def _pairs(table: pd.DataFrame, contents: ReportContents) -> str:
    header = ["metric", "A", "B", "n", "mean A − B", "median A − B", "p", "p (Holm)", "+ / = / −"]
    rows = [_pair(row, contents.metrics[row.metric]) for row in table.itertuples()]
    if (table["note"] != "").any():
        header.append("note")
        rows = [[*row, note] for row, note in zip(rows, table["note"])]
    return markdown_table(header, rows, text_columns=3)


def _ranks(table: pd.DataFrame, contents: ReportContents) -> str:
    ranks = contents.summary.set_index(["label", "metric", "model"])["mean_rank"]
    rows = [
        [row.metric, str(row.n), cell_text(row.statistic), p_value(row.p)]
        + [_rank(ranks.get((row.label, row.metric, model))) for model in contents.models]
        for row in table.itertuples()
    ]
    return markdown_table(["metric", "n", "χ²", "p", *(f"rank of {model}" for model in contents.models)], rows)


def _pair(row: Any, metric: Metric) -> list[str]:
    return [
        difference_name(metric),
        row.model_a,
        row.model_b,
        str(row.n),
        with_interval(row.mean_difference, row.mean_low, row.mean_high, metric, signed=True),
        with_interval(row.median_difference, row.median_low, row.median_high, metric, signed=True),
        p_value(row.p),
        p_value(row.p_holm),
        f"{row.wins} / {row.ties} / {row.losses}",
    ]


def _rank(rank: float | None) -> str:
    return MISSING if rank is None or pd.isna(rank) else f"{rank:.2f}"


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_text(line)}" for line in lines)


class _Bold(str):
    """A cell that `_text` sets in bold."""


def _text(text: str) -> str:
    """So that a name is shown as it is: | ends a cell, < before a letter begins a tag, * and ` change the type."""
    plain = re.sub(r"[\\`*|]|<(?=[A-Za-z/!?])", r"\\\g<0>", " ".join(text.split()))
    return f"**{plain}**" if isinstance(text, _Bold) else plain
