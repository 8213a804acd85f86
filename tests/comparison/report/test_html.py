"""The files of a report, and report.html without a browser; test_in_chromium.py is with one."""

import base64
import csv
import hashlib
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from nnunet_xmodal.comparison.report.html import render, write_report
from nnunet_xmodal.evaluation.metrics import Metric

HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "a|b", "\"quoted' & ampersand\u2028")
METRIC = Metric("Dice", "higher", "overlap", "%")


class Page(HTMLParser):
    """Tags with attributes, and the texts of every kind of element."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self._open = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._open = tag

    def handle_data(self, data):
        self.texts.append((self._open, data))

    def of(self, tag):
        return [attributes for found, attributes in self.tags if found == tag]


def _data(page_text):
    """The tables' data by name, as the page's script reads it."""
    islands = re.findall(r'<script type="application/json" id="(\w+)-data">(.*?)</script>', page_text, flags=re.DOTALL)
    return {name: json.loads(text) for name, text in islands}


def _texts(column):
    return [column["texts"][code] for code in column["codes"]]


@pytest.fixture(scope="module")
def folder(contents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison") / "new" / "folder"
    write_report(contents, folder)
    return folder


@pytest.fixture(scope="module")
def page_text(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_every_file_is_written(folder):
    names = {path.name for path in folder.iterdir()}
    tables = {"cases.csv", "summary.csv", "statistics.csv", "detection.csv", "cost.csv"}
    assert names == tables | {"summary.md", "report.html"}


def test_what_is_not_there_is_not_written(make_contents, tmp_path, undrawn):
    contents = make_contents(detection=None, cost=None, curves={}, overlays=[])
    (tmp_path / "detection.csv").write_text("of an earlier report")
    write_report(contents, tmp_path)
    assert {path.name for path in tmp_path.glob("*.csv")} == {"cases.csv", "summary.csv", "statistics.csv"}
    ids = {attributes.get("id") for attributes in Page((tmp_path / "report.html").read_text("utf-8")).of("section")}
    assert ids == {"summary", "comparisons", "plots", "cases", "definitions"}


def test_nothing_is_written_unless_all_can_be(make_contents, tmp_path, undrawn):
    with pytest.raises(AttributeError):
        write_report(make_contents(overlays=["no overlay"]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_names_of_files_need_not_be_utf_8(make_cases, make_contents, tmp_path, undrawn):
    write_report(make_contents(make_cases(models=("A",), case="\udcff{}")), tmp_path)
    assert r"\udcff3" in (tmp_path / "cases.csv").read_text(encoding="utf-8")


def test_csv_files_hold_every_digit_and_nothing_for_nan(contents, folder):
    with open(folder / "cases.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for name in contents.metrics:
        read = [float(row[name]) if row[name] else math.nan for row in rows]
        np.testing.assert_array_equal(read, contents.cases[name].to_numpy())
    assert b"nan" not in (folder / "cases.csv").read_bytes().lower()


def test_no_name_is_a_spreadsheets_formula(make_cases, make_contents, tmp_path, undrawn):
    """Of models, labels and cases; numbers, negative ones too, stay numbers."""
    cases = make_cases(models=("=A1", "B"), labels=("-x", "@SUM(1)"), case="+case_{}")
    cases["RVD"] -= 1
    write_report(make_contents(cases), tmp_path)
    for name in ("cases", "summary", "statistics"):
        with open(tmp_path / f"{name}.csv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        cells = [cell for row in rows for cell in row.values()]
        assert any(cell.startswith("'") for cell in cells)
        for cell in cells:
            assert cell[:1] not in ("=", "+", "-", "@") or math.isfinite(float(cell))
        if name == "cases":
            assert (rows[0]["model"], rows[0]["label"], rows[0]["case"]) == ("'=A1", "'-x", "'+case_0")
            np.testing.assert_array_equal([float(row["RVD"]) for row in rows], cases["RVD"])


def test_every_table_is_there(contents, page_text):
    data = _data(page_text)
    assert set(data) == {"summary", "pairs", "ranks", "cases"}
    cases = {column["title"]: column for column in data["cases"]["columns"]}
    assert _texts(cases["case"]) == contents.cases["case"].tolist()
    assert cases["Dice (%)"]["values"] == pytest.approx(100 * contents.cases["Dice"].to_numpy(), rel=1e-5)
    assert [value is None for value in cases["HD95 (mm)"]["values"]] == contents.cases["HD95"].isna().tolist()
    assert set(cases) - {"model", "fold", "case", "label", "empty"} == {m.shown for m in contents.metrics.values()}
    wilcoxon = contents.statistics.query("test == 'wilcoxon'")
    pairs = {column["title"]: column for column in data["pairs"]["columns"]}
    assert _texts(pairs["A"]) == wilcoxon["model_a"].tolist()
    assert pairs["p (Holm)"]["values"] == pytest.approx(wilcoxon["p_holm"].to_numpy(), rel=1e-5)
    assert len(data["summary"]["columns"][0]["codes"]) == len(contents.summary)
    ranks = {column["title"]: column for column in data["ranks"]["columns"]}
    assert ranks["p"]["values"] == pytest.approx(
        contents.statistics.query("test == 'friedman'")["p"].tolist(), rel=1e-5
    )
    assert ranks["rank of nnUNetTrainer"]["values"] == pytest.approx(
        contents.summary.query("model == 'nnUNetTrainer'")["mean_rank"].dropna().tolist(), rel=1e-5
    )
    captions = [text for tag, text in Page(page_text).texts if tag == "caption" and text.strip()]
    assert captions == [
        *(f"Scores of {label}" for label in ("mean over labels", "whole tumour", "tumour core")),
        "Detection",
        "Cost",
    ]


def test_facts_notes_definitions_and_pictures(contents, page_text):
    page = Page(page_text)
    texts = {text for _, text in page.texts}
    assert {"Dataset137_Brains", *contents.notes} <= texts
    assert {metric.shown for metric in contents.metrics.values()} <= texts
    # two labels × three main metrics × scores and differences, three curves, one overlay
    assert len(page.of("img")) == 2 * 3 * 2 + 3 + 1


def test_nothing_is_loaded(page_text):
    page = Page(page_text)
    assert "http://" not in page_text and "https://" not in page_text and "@import" not in page_text
    assert all(attributes["src"].startswith("data:image/png;base64,") for attributes in page.of("img"))
    assert all(attributes["href"].startswith("data:") for attributes in page.of("link"))
    assert all(attributes["href"].startswith("#") for attributes in page.of("a"))
    assert not any("src" in attributes for attributes in page.of("script"))


def test_the_policy_allows_this_style_and_this_script_only(page_text):
    (policy,) = [a["content"] for a in Page(page_text).of("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    style = re.search(r"<style>(.*?)</style>", page_text, flags=re.DOTALL)[1]
    script = re.search(r"<script>(.*?)</script>", page_text, flags=re.DOTALL)[1]
    for kind, text in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert not any("style" in attributes for _, attributes in Page(page_text).tags)


def test_hostile_names_are_text(make_cases, make_contents, undrawn):
    cases = make_cases(models=HOSTILE, labels=HOSTILE[:2], case=HOSTILE[1] + "{}", n=6, metrics={"Dice": METRIC})
    text = render(
        make_contents(cases, {"Dice": METRIC}, title=HOSTILE[0], facts={HOSTILE[1]: HOSTILE[0]}, notes=HOSTILE)
    )
    page = Page(text)
    assert len(page.of("script")) == 4 + 1  # the tables' data, and ours
    assert all(attributes["src"].startswith("data:") for attributes in page.of("img"))
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert _data(text)["cases"]["columns"][0]["texts"] == list(HOSTILE)
    assert {HOSTILE[0], HOSTILE[3]} <= {text for _, text in page.texts}


def test_infinite_and_missing_numbers_are_json(make_cases, make_contents, undrawn):
    metrics = {"PSNR": Metric("PSNR", "higher", None, "dB")}
    cases = make_cases(metrics=metrics, labels=("1",))
    cases.loc[0, "PSNR"], cases.loc[1, "PSNR"], cases.loc[2, "PSNR"] = math.inf, math.nan, 41.0
    column = _data(render(make_contents(cases, metrics)))["cases"]["columns"][-1]
    assert column["values"][:3] == ["Infinity", None, 41]


@pytest.mark.parametrize("models", [("A",), ("A", "B")])
def test_one_and_two_models(make_cases, make_contents, models, undrawn):
    data = _data(render(make_contents(make_cases(models=models, labels=("1",)))))
    assert ("pairs" in data) == (len(models) == 2)


def test_subjects_are_shown_where_cases_are_grouped(make_cases, make_contents, undrawn):
    for subjects, shown in ((None, False), (["one", "two"], True)):
        cases = make_cases(models=("A",), labels=("1",), n=2, metrics={"Dice": METRIC})
        cases["subject"] = subjects or cases["case"]
        titles = [
            column["title"] for column in _data(render(make_contents(cases, {"Dice": METRIC})))["cases"]["columns"]
        ]
        assert ("subject" in titles) == shown


def test_long_texts_are_packed(make_cases, make_contents, undrawn):
    """A name stands in the page once, however many rows have it."""
    cases = make_cases(models=("model_" + "x" * 100,), labels=("1",), n=50)
    assert render(make_contents(cases)).count("x" * 100) < 60
