"""report.html in a browser: it renders, sorts, filters, loads nothing and runs no name."""

import time
from types import SimpleNamespace

import pytest
from chromium import IN_CHROMIUM, chromium

from nnunet_xmodal.comparison.report.html import write_report
from nnunet_xmodal.evaluation.metrics import Metric

pytestmark = IN_CHROMIUM

SIZE = {"width": 1280, "height": 800}
HOSTILE = ("<script>alert(1)</script>", "</script><img src=x onerror=alert(2)>", "a|b")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def open_report(browser, tmp_path_factory):
    """`contents` → page, and what it did that it should not: messages, errors, dialogs, requests."""

    def open_it(contents):
        folder = tmp_path_factory.mktemp("report")
        write_report(contents, folder)
        address = (folder / "report.html").as_uri()
        page = browser.new_page(viewport=SIZE)
        wrong = []
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url.startswith(("data:", address)) or wrong.append(request.url))
        page.goto(address)
        return SimpleNamespace(page=page, wrong=wrong)

    return open_it


@pytest.fixture(scope="module")
def opened(open_report, contents):
    return open_report(contents)


@pytest.fixture
def report(opened):
    """The page as it is when it has been opened, whatever was sorted, chosen and typed before."""
    opened.page.set_viewport_size(SIZE)
    opened.page.reload()
    return opened


def _column(table, title):
    """Texts of a column of the page that is drawn."""
    titles = [text.strip() for text in table.locator("thead th:visible").all_inner_texts()]
    place = next(i for i, found in enumerate(titles) if found.startswith(title)) + 1
    return table.locator(f"tbody tr > :nth-child({place})").all_inner_texts()


def _numbers(texts):
    return [float("nan" if text == "–" else text.split(" ")[0].replace("−", "-")) for text in texts]


def test_it_renders_without_a_word_and_without_a_request(report, contents):
    assert report.page.title() == contents.title
    assert report.wrong == []
    sizes = report.page.evaluate("[...document.images].map((image) => image.naturalWidth)")
    assert len(sizes) == 2 * 3 * 2 + 3 + 1 and all(sizes)
    assert report.page.locator("#cases tbody tr").count() == 25
    assert report.page.locator("#cases [role=status]").inner_text() == "1–25 of 72"


@pytest.mark.parametrize("section", ["#summary", "#cases"])
def test_a_click_sorts_numbers_both_ways_with_empty_cells_last(report, section, contents):
    """Both kinds of table: that of the scores is in the page, that of the cases is drawn from data."""
    table = report.page.locator(f"{section} table").first
    header = table.locator("th", has=report.page.get_by_role("button", name="HD95"))
    for direction in ("ascending", "descending"):
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == direction
        assert table.locator("th[aria-sort]").count() == 1
        found = _numbers(_column(table, "HD95"))
        assert found == sorted(found, reverse=direction == "descending") and len(found) > 2
    if section == "#cases":
        report.page.get_by_role("button", name="next").click()
        report.page.get_by_role("button", name="next").click()
        assert _column(table, "HD95")[-3:] == ["–"] * 3  # of the cases without a reference, on the last page
        assert report.page.locator("#cases [role=status]").inner_text() == "51–72 of 72"


def test_the_keyboard_sorts_too(report):
    table = report.page.locator("#cost table")
    button = table.get_by_role("button", name="s per epoch")
    button.focus()
    report.page.keyboard.press("Enter")
    up = _column(table, "s per epoch")
    report.page.keyboard.press("Space")
    down = _column(table, "s per epoch")
    assert up[2] == down[2] == "–" and up[:2] == down[1::-1] and float(up[0]) <= float(up[1])


def test_texts_sort_as_people_count(report):
    table = report.page.locator("#cases table")
    table.get_by_role("button", name="case").click()
    names = _column(table, "case")
    assert names.index("case_2") < names.index("case_3") and names[0] == "case_0"
    assert report.page.locator("#cases [role=status]").inner_text().startswith("1–25")


def test_filter_and_choices(report):
    cases = report.page.locator("#cases")
    cases.get_by_role("searchbox").fill("CASE_11 core")
    assert cases.locator("[role=status]").inner_text() == "1–3 of 3"
    assert set(_column(cases.locator("table"), "empty")) == {"reference"}
    cases.get_by_label("model").select_option("nnUNetTrainerCSAD")
    assert cases.locator("[role=status]").inner_text() == "1–1 of 1"
    assert cases.locator("thead th").first.is_hidden()  # a column that says the same in every row
    cases.get_by_role("searchbox").fill("nothing like it")
    assert cases.locator("[role=status]").inner_text() == "no rows"


def test_one_label_of_the_scores(report):
    summary = report.page.locator("#summary")
    assert summary.locator(".labelled:visible h3").all_inner_texts() == [
        "mean over labels",
        "whole tumour",
        "tumour core",
    ]
    summary.locator("select.chooser").select_option("tumour core")
    assert summary.locator(".labelled:visible h3").all_inner_texts() == ["tumour core"]


def test_pairs_are_those_of_the_statistics(report, contents):
    table = report.page.locator("#comparisons table").first
    row = contents.statistics.query("test == 'wilcoxon' and metric == 'Dice'").iloc[0]
    assert table.locator("tbody tr").count() == 6  # three pairs of two labels; Dice is chosen
    assert _column(table, "wins")[0] == str(row["wins"])
    assert _numbers(_column(table, "mean"))[0] == pytest.approx(100 * row["mean_difference"], abs=0.05)


def test_hostile_names_are_only_text(open_report, make_cases, make_contents):
    metrics = {"Dice": Metric("Dice", "higher", "overlap", "%")}
    cases = make_cases(models=HOSTILE, labels=HOSTILE[:2], metrics=metrics, n=6, case=HOSTILE[1] + "{}")
    hostile = open_report(
        make_contents(cases, metrics, title=HOSTILE[1], facts={HOSTILE[0]: HOSTILE[1]}, notes=HOSTILE)
    )
    assert hostile.wrong == []
    assert hostile.page.locator("h1").inner_text() == HOSTILE[1]
    assert _column(hostile.page.locator("#cases table"), "case")[0] == HOSTILE[1] + "0"
    assert _column(hostile.page.locator("#summary table").first, "model") == list(HOSTILE)
    hostile.page.locator("#cases").get_by_label("model").select_option(HOSTILE[0])
    hostile.page.locator("#cases").get_by_role("button", name="Dice").click()
    assert hostile.wrong == []
    hostile.page.close()


def test_a_phone_scrolls_tables_and_not_the_page(report):
    report.page.set_viewport_size({"width": 390, "height": 800})
    assert report.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert report.wrong == []  # nor in all that was done before


def test_twenty_thousand_rows_are_sorted_in_a_moment(open_report, make_cases, make_contents):
    metrics = {"Dice": Metric("Dice", "higher", "overlap", "%")}
    contents = make_contents(make_cases(models=("A",), labels=("1",), metrics=metrics), metrics)
    contents.cases = make_cases(models=("A",), labels=("1",), metrics=metrics, n=20_000)
    large = open_report(contents)
    start = time.perf_counter()
    large.page.locator("#cases").get_by_role("button", name="Dice").click()
    large.page.locator("#cases").get_by_role("searchbox").fill("case_199")
    assert large.page.locator("#cases [role=status]").inner_text() == "1–25 of 111"
    assert time.perf_counter() - start < 5
    large.page.close()
