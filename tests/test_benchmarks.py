"""What the scripts import is where they look for it; most of them run in no test."""

import runpy
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=[script.stem for script in SCRIPTS])
def test_a_benchmark_finds_what_it_imports(script):
    assert callable(runpy.run_path(str(script), run_name="imported")["main"])
