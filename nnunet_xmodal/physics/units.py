"""Field maps in ppm of the main field, in hertz and in radians at an echo time.

    Hz  = γ/2π · B0 · ppm          γ/2π = 42.577478518 MHz/T, of the proton (CODATA 2018)
    rad = 2π · TE · Hz

A positive field is a positive frequency and, here, a positive phase. Some scanners' phase runs the other way, and a map
made from it has to be negated beforehand. Phase in radians is that of a single echo, unwrapped.
"""

import math
from numbers import Real
from typing import TypeVar

import numpy as np
import torch

from nnunet_xmodal.errors import XModalError

FIELD_UNITS = ("ppm", "Hz", "rad")
LONGEST_ECHO_TIME = 1.0
"""In s: at longer ones no tissue has any signal, and a larger number is one of milliseconds."""
GYROMAGNETIC_RATIO = 42.577478518
"""γ/2π of the proton in MHz/T, which is Hz per ppm and tesla."""

Field = TypeVar("Field", float, np.ndarray, torch.Tensor)


def to_ppm(field: Field, unit: str, b0: float | None = None, echo_time: float | None = None) -> Field:
    """Convert a field to ppm.

    Args:
        field: in `unit`.
        unit: one of FIELD_UNITS.
        b0: strength of the main field in T, for Hz and rad.
        echo_time: TE in s, for rad.

    Raises:
        XModalError: for an unknown unit, for a field strength or echo time that is needed and not a positive number,
            and for an echo time that looks like milliseconds.
    """
    return field / one_ppm_in(unit, b0, echo_time)


def from_ppm(field: Field, unit: str, b0: float | None = None, echo_time: float | None = None) -> Field:
    """Convert a field from ppm, the inverse of `to_ppm`."""
    return field * one_ppm_in(unit, b0, echo_time)


def one_ppm_in(unit: str, b0: float | None = None, echo_time: float | None = None) -> float:
    """Return how much of `unit` one ppm is: at 3 T 127.7 Hz; arguments and errors as `to_ppm` has them."""
    if unit not in FIELD_UNITS:
        raise XModalError(f"a field is in one of {', '.join(FIELD_UNITS)}, and {unit!r} is none of them.")
    if unit == "ppm":
        return 1.0
    hertz = GYROMAGNETIC_RATIO * _positive(b0, "the strength of the main field (B0) in T", unit)
    if unit == "Hz":
        return hertz
    seconds = _positive(echo_time, "the echo time (TE) in s", unit)
    if seconds > LONGEST_ECHO_TIME:
        raise XModalError(f"the echo time (TE) is {seconds:g} s, which looks like milliseconds: divide it by 1000.")
    return 2 * math.pi * hertz * seconds


def _positive(value: float | None, what: str, unit: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not (math.isfinite(value) and value > 0):
        raise XModalError(f"a field in {unit} needs {what} as a positive number, and it is {value}.")
    return float(value)
