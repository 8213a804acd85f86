"""Every file of tests can be collected where there is nothing of what Windows lacks."""

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# numpy, torch and pytest look for what a system has when they are imported, and this one is no Windows
COLLECT = """\
import sys
sys.path.insert(0, "tests/helpers")
import filelock, numpy, pytest, torch
import windows
windows.take_away()
sys.exit(pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-n0", *sys.argv[1:]]))
"""


@pytest.mark.slow
def test_tests_are_collected_without_what_windows_lacks():
    words = [sys.executable, "-c", COLLECT, str(TESTS)]
    done = subprocess.run(words, cwd=TESTS.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
