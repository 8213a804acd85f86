"""What the metadata and the workflows say of Python is what the page of versions says was run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"

in_checkout = pytest.mark.skipif(not WORKFLOWS.is_dir(), reason="the source archive has no workflows")


def read(*parts: str) -> str:
    return ROOT.joinpath(*parts).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run() -> set[str]:
    """Versions of Python in rows of the table that tell what was run."""
    rows = re.findall(r"^\| (3\.\d+) \| [\d.]+ \| [\d.]+ \|", read("documentation", "how-to", "install.md"), re.M)
    assert len(rows) == len(set(rows)) and len(rows) >= 3
    return set(rows)


def test_classifiers_name_the_versions_that_were_run(run):
    assert set(re.findall(r"Python :: (3\.\d+)", read("pyproject.toml"))) == run


def test_systems_that_were_not_run_are_no_classifiers():
    assert re.findall(r'"Operating System :: (.+)"', read("pyproject.toml")) == ["POSIX :: Linux"]


@in_checkout
def test_workflows_ask_for_versions_that_were_run(run):
    asked = re.findall(r'"(3\.\d+)"', read(".github", "workflows", "tests.yml"))
    assert set(asked) == run
    assert set(re.findall(r'"(3\.\d+)"', read(".github", "workflows", "publish.yml"))) <= run


@in_checkout
def test_a_release_is_built_and_checked_as_before_a_merge():
    checked, released = read(".ci", "run"), read(".github", "workflows", "publish.yml")
    for command in ("python -m build", "twine check --strict"):
        assert command in checked and command in released


def test_every_dependency_has_a_row_that_says_why():
    metadata = read("pyproject.toml")
    required = re.search(r"^dependencies = \[(.+?)^\]", metadata, re.M | re.S)[1]
    extras = re.search(r"^\[project.optional-dependencies\](.+?)^\[", metadata, re.M | re.S)[1]
    names = {name.lower() for name in re.findall(r'"([\w-]+)(?:\[\w+\])?(?:[<>=][^"]*)?"', required + extras)}
    table = read("documentation", "development.md").partition("## Dependencies")[2].partition("Not taken")[0]
    rows = [row.strip("| ").split(" | ", 1) for row in table.splitlines()[4:] if row.startswith("|")]
    assert all(len(row) == 2 and row[1].strip() for row in rows), "a row gives no reason"
    told = {name.lower() for row in rows for name in re.findall(r"[\w-]+", row[0])}
    assert names and not names - told
