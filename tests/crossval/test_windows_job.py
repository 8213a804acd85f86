"""The calls of Windows that end a training with the command that runs it, as far as another system can show them."""

import ctypes
import sys

import pytest

from nnunet_xmodal.crossval import windows_job

OURS = ctypes.c_void_p(-1).value
"""The handle by which Windows knows a process that asks."""


class Kernel32:
    """Of the names in `refuses`, every call fails."""

    def __init__(self, refuses: str = "") -> None:
        self.called: dict[str, tuple] = {}
        for name, answer in (
            ("CreateJobObjectW", 7),
            ("SetInformationJobObject", 1),
            ("AssignProcessToJobObject", 1),
            ("GetCurrentProcess", OURS),
        ):
            setattr(self, name, self.function(name, 0 if name == refuses else answer))

    def function(self, name: str, answer: int | None):
        def call(*arguments):
            self.called[name] = arguments
            return answer

        return call


@pytest.fixture
def kernel32(monkeypatch):
    """`(refuses)` → the library that is asked next."""

    def make(refuses: str = "") -> Kernel32:
        made = Kernel32(refuses)
        monkeypatch.setattr(ctypes, "WinDLL", lambda name, use_last_error: made, raising=False)
        monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
        return made

    return make


@pytest.mark.skipif(sys.maxsize < 2**32, reason="of 64 bits")
def test_structures_have_the_sizes_and_places_of_the_header():
    limits, basic = windows_job._Limits, windows_job._BasicLimits
    assert (ctypes.sizeof(basic), ctypes.sizeof(limits)) == (64, 144)
    assert (basic.LimitFlags.offset, basic.ActiveProcessLimit.offset, basic.SchedulingClass.offset) == (16, 40, 60)
    assert (limits.IoInfo.offset, limits.ProcessMemoryLimit.offset) == (64, 112)


def test_this_process_is_put_into_a_job_that_ends_when_its_last_handle_closes(kernel32):
    asked = kernel32()
    windows_job.end_children_with_this_process()
    assert asked.called["CreateJobObjectW"] == (None, None)  # no name, and a handle that no child inherits
    job, kind, limits, size = asked.called["SetInformationJobObject"]
    assert (job, kind, size) == (7, 9, ctypes.sizeof(windows_job._Limits))
    assert limits._obj.BasicLimitInformation.LimitFlags == 0x2000
    assert asked.called["AssignProcessToJobObject"] == (7, OURS)


@pytest.mark.parametrize("call", ["CreateJobObjectW", "SetInformationJobObject", "AssignProcessToJobObject"])
def test_a_refusal_is_an_error(call, kernel32):
    kernel32(refuses=call)
    with pytest.raises(OSError, match="Windows gives no job object") as error:
        windows_job.end_children_with_this_process()
    assert error.value.errno == 5
