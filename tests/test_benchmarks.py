"""What the scripts import is where they look for it; most of them run in no test."""

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_benchmark_finds_what_it_imports(script, monkeypatch):
    monkeypatch.syspath_prepend(str(script.parent))  # as when it is run
    found = runpy.run_path(str(script), run_name="imported")
    assert callable(found.get("main")) or '__name__ == "__main__"' not in script.read_text(encoding="utf-8")
