"""What Windows has in the place of process groups: a job object, whose processes end with the one that made it."""

import ctypes
from ctypes import c_int, c_int64, c_size_t, c_uint32, c_uint64, c_void_p, c_wchar_p
from typing import Any

_EXTENDED_LIMIT_INFORMATION = 9  # JobObjectExtendedLimitInformation of <winnt.h>
_KILL_ON_JOB_CLOSE = 0x2000  # JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE


class _BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION of <winnt.h>."""

    _fields_ = (
        ("PerProcessUserTimeLimit", c_int64),
        ("PerJobUserTimeLimit", c_int64),
        ("LimitFlags", c_uint32),
        ("MinimumWorkingSetSize", c_size_t),
        ("MaximumWorkingSetSize", c_size_t),
        ("ActiveProcessLimit", c_uint32),
        ("Affinity", c_size_t),
        ("PriorityClass", c_uint32),
        ("SchedulingClass", c_uint32),
    )


class _Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION of <winnt.h>."""

    _fields_ = (
        ("BasicLimitInformation", _BasicLimits),
        ("IoInfo", c_uint64 * 6),
        ("ProcessMemoryLimit", c_size_t),
        ("JobMemoryLimit", c_size_t),
        ("PeakProcessMemoryUsed", c_size_t),
        ("PeakJobMemoryUsed", c_size_t),
    )


def end_children_with_this_process() -> None:
    """Let Windows end all that this process starts from now on, and what that starts, when it ends, in whatever way.

    Raises:
        OSError: if Windows refuses.
    """
    kernel32 = _kernel32()
    # no handle is closed but by the end of this process, which is what ends the others
    job = kernel32.CreateJobObjectW(None, None)
    limits = _Limits()
    limits.BasicLimitInformation.LimitFlags = _KILL_ON_JOB_CLOSE
    size = ctypes.sizeof(limits)
    if not (
        job
        and kernel32.SetInformationJobObject(job, _EXTENDED_LIMIT_INFORMATION, ctypes.byref(limits), size)
        and kernel32.AssignProcessToJobObject(job, kernel32.GetCurrentProcess())
    ):
        number = ctypes.get_last_error()  # type: ignore[attr-defined]  # of Windows alone, as below
        raise OSError(number, "Windows gives no job object, which ends a training with the command that runs it")


def _kernel32() -> Any:
    """With the types of what is called: without them, ctypes cuts handles to 32 bits."""
    kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel32.CreateJobObjectW.argtypes, kernel32.CreateJobObjectW.restype = [c_void_p, c_wchar_p], c_void_p
    kernel32.SetInformationJobObject.argtypes = [c_void_p, c_int, c_void_p, c_uint32]
    kernel32.AssignProcessToJobObject.argtypes = [c_void_p, c_void_p]
    kernel32.GetCurrentProcess.argtypes, kernel32.GetCurrentProcess.restype = [], c_void_p
    return kernel32
