"""How a training is started and ended where Windows has no process groups; test_local.py tells it of POSIX."""

import subprocess
import sys

import pytest

from nnunet_xmodal.crossval import process_group
from nnunet_xmodal.crossval.process_group import kill_group, of_its_own, stop_group, tie_groups


@pytest.fixture
def told(on_windows, monkeypatch) -> list[str]:
    """On Windows; whether its job object was asked for."""
    asked: list[str] = []
    on_windows(process_group)
    monkeypatch.setattr(process_group, "end_children_with_this_process", lambda: asked.append("a job object"))
    return asked


def test_ctrl_c_reaches_no_group_of_its_own(told):
    assert of_its_own() == {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200)}


def test_groups_end_with_whoever_starts_them(told):
    tie_groups()
    assert told == ["a job object"]


def test_a_leader_is_ended_and_may_have_ended_before(told):
    process = subprocess.Popen([sys.executable, "-SE", "-c", "input()"], stdin=subprocess.PIPE)
    for _ in range(2):
        stop_group(process)
        assert process.returncode not in (None, 0)
    process.stdin.close()


def test_what_is_left_of_a_killed_ones_group_is_not_looked_for(told):
    kill_group(1)  # os.killpg would fail: WindowsOs has none
