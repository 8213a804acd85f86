"""report.html: one file without anything to load, and the other files of a comparison beside it."""

import base64
import hashlib
import math
import os
import re
from collections.abc import Iterable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from nnunet_xmodal.comparison.report import numbers, plots, tables
from nnunet_xmodal.comparison.report.contents import ReportContents
from nnunet_xmodal.comparison.report.figures import figures_of
from nnunet_xmodal.comparison.report.own_files import REPORT, TABLES
from nnunet_xmodal.comparison.report.scores import EXPLAINED, score_tables
from nnunet_xmodal.files.atomic import flush
from nnunet_xmodal.files.csv_cells import table_as_text
from nnunet_xmodal.files.own_pages import GENERATOR
from nnunet_xmodal.files.temporary import temporary_folder

_SIGNIFICANT = 6  # digits of the numbers in the page; the CSV files hold all
_LONG = 24  # characters of a name that may be broken; as in report.js

Table = dict[str, object]
"""A table that the page's script draws: {"columns": […], "choices": […], "filter": …}, see `_column`."""


def write_report(contents: ReportContents, folder: str | Path) -> None:
    """Write report.html, summary.md, and as CSV cases, summary, statistics, presence, detection, reliability, forecast
    and cost.

    All of them or, if something fails, none: an earlier report in the folder is never mixed with this one.
    """
    texts = {REPORT: render(contents), "summary.md": tables.markdown(contents)}  # REPORT first: see check_no_others
    for name in TABLES:
        table = getattr(contents, name)
        if table is not None:
            # pandas writes floats so that reading them gives the same number, and NaN as nothing
            texts[f"{name}.csv"] = table_as_text(table).to_csv(index=False, lineterminator="\n")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with temporary_folder(folder) as temporary:
        for name, text in texts.items():
            # \n everywhere: the hashes in the page's policy are of these very bytes; names of files need not be UTF-8
            Path(temporary, name).write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
            flush(Path(temporary, name))
        for name in texts:
            os.replace(Path(temporary, name), folder / name)
    for name in TABLES:
        if f"{name}.csv" not in texts:
            (folder / f"{name}.csv").unlink(missing_ok=True)


def render(contents: ReportContents) -> str:
    """Return the whole page. Every name in it is escaped: by Jinja in HTML, by its `tojson` filter in tables' data."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["breakable"] = _breakable
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False, "separators": (",", ":")}
    style, script = _resource("report.css") + _swatches(), _resource("report.js")
    return environment.from_string(_resource("report.html.j2")).render(
        contents=contents,
        generator=Markup(GENERATOR),
        style=Markup(style),
        script=Markup(script),
        # nothing but this style and this script, so that not even a mistake in escaping could run anything
        policy=f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        scores=list(_scores(contents)),
        scores_explained=EXPLAINED,
        summary=_summary(contents),
        ranks=_ranks(contents),
        pairs=_pairs(contents),
        figures=[{"label": label, "title": title, "image": _image(png)} for label, title, png in figures_of(contents)],
        curves=[
            {"title": title, "image": _image(png)}
            for what, title in plots.CURVES.items()
            if (png := plots.curve_plot(contents.curves, what, contents.models))
        ],
        overlays=[
            {"caption": overlay.caption, "image": _image(overlay.png), "page": overlay.page}
            for overlay in contents.overlays
        ],
        frames=[
            {"title": title, "table": _frame(table, shown_as)}
            for title, table, shown_as in tables.small_tables(contents)
        ],
        cases=_cases(contents),
        definitions=[(metric.shown, metric.better, metric.definition) for metric in contents.metrics.values()],
    )


def _scores(contents: ReportContents) -> Iterator[dict]:
    """Per label a small table, drawn without the script."""
    for table in score_tables(contents):
        rows = [
            [_cell(row.model, row.model), *(_cell(score.text, score.value, score.best) for score in row.scores)]
            + [_cell(str(count), count) for count in (row.cases, row.empty, row.folds)]
            for row in table.rows
        ]
        yield {"label": table.label, "table": {"header": table.header, "rows": rows}, "left_out": table.left_out}


def _summary(contents: ReportContents) -> Table:
    """Every number of the summary, in the metrics' units."""
    table = contents.summary
    metrics = [contents.metrics[name] for name in table["metric"]]
    columns = [
        _column("model", table["model"]),
        _column("label", table["label"]),
        _column("metric", pd.Series([metric.shown for metric in metrics])),
        _column(
            "folds: mean ± SD",
            table["mean_of_folds"],
            map(numbers.mean_and_sd, table["mean_of_folds"], table["sd_of_folds"], metrics),
        ),
        _column("cases: mean ± SD", table["mean"], map(numbers.mean_and_sd, table["mean"], table["sd"], metrics)),
        _column(
            "median [quartiles]",
            table["median"],
            map(numbers.with_interval, table["median"], table["q1"], table["q3"], metrics),
        ),
        _column("mean rank", table["mean_rank"], decimals=2),
        _column("n", table["n"], decimals=0),
        *(_column(name, table[f"n_{name}"], decimals=0) for name in ("undefined", "empty", "folds")),
    ]
    first = contents.main_metrics[0].shown if contents.main_metrics else None
    return {"columns": columns, "choices": [_choice(1), _choice(2, first)], "filter": False}


def _pairs(contents: ReportContents) -> Table:
    """Every pair of models."""
    table = contents.statistics[contents.statistics["test"] == "wilcoxon"]
    metrics = [contents.metrics[name] for name in table["metric"]]
    differences = [
        _column(
            f"{what} A − B [95 %]",
            table[f"{what}_difference"],
            map(
                partial(numbers.with_interval, signed=True),
                *(table[f"{what}_{part}"] for part in ("difference", "low", "high")),
                metrics,
            ),
        )
        for what in ("mean", "median")
    ]
    columns = [
        _column("label", table["label"]),
        _column("metric", pd.Series([numbers.difference_name(metric) for metric in metrics])),
        _column("A", table["model_a"]),
        _column("B", table["model_b"]),
        _column("n", table["n"], decimals=0),
        *differences,
        *(_column(title, table[name], map(numbers.p_value, table[name])) for title, name in _P_VALUES.items()),
        *(_column(name, table[name], decimals=0) for name in ("wins", "ties", "losses")),
        _column("note", table["note"]),
    ]
    first = numbers.difference_name(contents.main_metrics[0]) if contents.main_metrics else None
    return {"columns": columns, "choices": [_choice(0), _choice(1, first)], "filter": False}


_P_VALUES = {"p": "p", "p (Holm)": "p_holm"}


def _ranks(contents: ReportContents) -> Table:
    """A row per label and metric: Friedman's test and the models' mean ranks."""
    ranked = contents.summary.dropna(subset="mean_rank")
    ranks = ranked.pivot(index=["label", "metric"], columns="model", values="mean_rank")
    keys = ranked[["label", "metric"]].drop_duplicates()
    ranks = ranks.reindex(index=pd.MultiIndex.from_frame(keys), columns=list(contents.models))
    overall = contents.statistics[contents.statistics["test"] == "friedman"].set_index(["label", "metric"])
    overall = overall.reindex(ranks.index)
    columns = [_column("label", keys["label"]), _column("metric", keys["metric"])]
    columns += [_column(f"rank of {model}", ranks[model], decimals=2) for model in contents.models]
    first = contents.main_metrics[0].name if contents.main_metrics else None
    if len(contents.models) > 2:
        columns += [
            _column("n", overall["n"], decimals=0),
            _column("χ²", overall["statistic"], decimals=2),
            _column("p", overall["p"], map(numbers.p_value, overall["p"])),
            _column("note", overall["note"].fillna("")),
        ]
    return {"columns": columns, "choices": [_choice(0), _choice(1, first)], "filter": False}


def _cases(contents: ReportContents) -> Table:
    """All rows and all metrics."""
    table = contents.cases
    texts = ["model", "fold", "case", "label", "empty"]
    if (table["subject"] != table["case"]).any():
        texts.insert(3, "subject")
    columns = [_column(name, table[name]) for name in texts]
    columns += [
        _column(metric.shown, table[name] * metric.scale, decimals=numbers.digits(metric))
        for name, metric in contents.metrics.items()
    ]
    label = texts.index("label")
    return {"columns": columns, "choices": [_choice(0), _choice(label)], "filter": True}


def _frame(table: pd.DataFrame, shown_as: dict) -> dict:
    """A small table of any columns."""
    header = [shown_as.get(column, (str(column),))[0] for column in table]
    rows = [
        [_cell(tables.cell_text(value, shown_as.get(column)), value) for column, value in zip(table, row)]
        for row in table.to_numpy(object)
    ]
    return {"header": header, "rows": rows}


def _column(
    title: str, values: pd.Series, shown: Iterable[str] | None = None, decimals: int | None = None
) -> dict[str, object]:
    """A column for the script: texts as places in a list of different texts, or numbers, null where missing.

    shown: what to print instead of the numbers, which then only sort; decimals None: four significant digits.
    """
    if not pd.api.types.is_numeric_dtype(values):
        codes, texts = pd.factorize(values.astype(str))
        return {"title": title, "kind": "text", "texts": texts.tolist(), "codes": codes.tolist()}
    column = {
        "title": title,
        "kind": "number",
        "values": [_json_number(value) for value in values.to_numpy(dtype=float, na_value=np.nan)],
    }
    return column | ({"decimals": decimals} if shown is None else {"shown": list(shown)})


def _json_number(value: float) -> float | int | str | None:
    """JSON knows no NaN, which is missing here, and no infinity, which JavaScript reads from its name."""
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    short = float(f"{value:.{_SIGNIFICANT}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _choice(column: int, selected: str | None = None) -> dict[str, object]:
    """A selector of the texts of a column; None: all of them."""
    return {"column": column, "selected": selected}


def _cell(text: str, key: Any, best: bool = False) -> dict[str, object]:
    """A cell of a table that the template draws; key is what it is sorted by, "" where missing."""
    missing = key is None or pd.isna(key)
    number = isinstance(key, (int, float, np.number)) and not isinstance(key, bool)
    return {"text": text, "key": "" if missing else float(key) if number else str(key), "number": number, "best": best}


def _breakable(name: str) -> Markup:
    """The escaped name, with places where a narrow table may break a long one: after _ and between camelCase words."""
    parts = re.split(r"(?<=_)|(?<=[a-z0-9])(?=[A-Z][a-z])", name) if len(name) > _LONG else [name]
    return Markup("<wbr>").join(escape(part) for part in parts)


def _image(png: bytes) -> dict[str, object]:
    """Address and size in CSS pixels, so that the page does not jump while images are decoded."""
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))  # of the IHDR chunk
    return {"source": f"data:image/png;base64,{base64.b64encode(png).decode()}", "width": width, "height": height}


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _swatches() -> str:
    """Classes m0, m1, … with the models' colours in the plots."""
    return "".join(f".m{i}::before {{ background: {colour}; }}\n" for i, colour in enumerate(plots.COLOURS))


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
