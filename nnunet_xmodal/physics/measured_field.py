"""How the field maps of a dataset were measured: unit, field strength, echo time, direction of the main field.

dataset.json may say so, and the planner's flags win over it; the plans keep it:

    "xmodal": {"field": {"unit": "Hz", "B0": 3.0, "TE": 0.02, "direction": [0, 0, 1]}}

Without a word a field is in ppm and the main field along the scanner's z axis. Networks see ppm, whatever the unit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.units import one_ppm_in

KEYS = ("unit", "B0", "TE", "direction")


class FieldGeometry(NamedTuple):
    """Spacing and main field along the axes of a preprocessed case.

    Attributes:
        spacing: effective, mm along the axes of the preprocessed array.
        direction: b, unit vector of the main field along these axes.
    """

    spacing: tuple[float, ...]
    direction: tuple[float, ...]


@dataclass(frozen=True)
class MeasuredField:
    """Unit and circumstances in which field maps were measured.

    Attributes:
        unit: one of `physics.units.FIELD_UNITS`.
        b0: strength of the main field in T, for Hz and rad.
        echo_time: TE in s, for rad.
        direction: of the main field in physical (LPS) space, x, y, z; its length and sign do not matter.

    Raises:
        XModalError: for an unknown unit, a number that the unit needs and that is not positive, and a direction that is
            none.
    """

    unit: str = "ppm"
    b0: float | None = None
    echo_time: float | None = None
    direction: tuple[float, ...] = (0.0, 0.0, 1.0)

    def __post_init__(self) -> None:
        one_ppm_in(self.unit, self.b0, self.echo_time)
        field_direction((1, 0, 0, 0, 1, 0, 0, 0, 1), self.direction)

    @classmethod
    def of_entry(cls, entry: Mapping | None) -> "MeasuredField":
        """Read `"field"` of dataset.json or of the plans.

        Raises:
            XModalError: as the class, and for keys that are none of KEYS.
        """
        entry = entry or {}
        if not isinstance(entry, Mapping) or set(entry) - set(KEYS):
            raise XModalError(
                f'"field" of dataset.json is {entry!r}: write it as {{"unit": "Hz", "B0": 3.0, "TE": 0.02, '
                '"direction": [0, 0, 1]}, whatever of it is known.'
            )
        direction = entry.get("direction", cls.direction)
        if not isinstance(direction, list | tuple):  # JSON knows no other vectors
            raise XModalError(
                f'the direction of "field" in dataset.json is {direction!r}: write it as three numbers, [0, 0, 1].'
            )
        return cls(entry.get("unit", cls.unit), entry.get("B0"), entry.get("TE"), tuple(direction))

    def as_entry(self) -> dict:
        """Return what `of_entry` reads."""
        return dict(zip(KEYS, (self.unit, self.b0, self.echo_time, list(self.direction))))

    def with_flags(
        self,
        unit: str | None = None,
        b0: float | None = None,
        echo_time: float | None = None,
        direction: Sequence[float] | None = None,
    ) -> "MeasuredField":
        """Return these measurements, with what a command line says in their place; None changes nothing."""
        said: dict[str, Any] = {
            "unit": unit,
            "b0": b0,
            "echo_time": echo_time,
            "direction": direction and tuple(direction),
        }
        return replace(self, **{name: value for name, value in said.items() if value is not None})

    @property
    def one_ppm(self) -> float:
        """Return how much one ppm is in `unit`."""
        return one_ppm_in(self.unit, self.b0, self.echo_time)

    def geometry(self, properties: dict, shape: Sequence[int], transpose_forward: Sequence[int]) -> FieldGeometry:
        """Return the geometry of one preprocessed case.

        Args:
            properties: as nnU-Net's SimpleITK reader and its preprocessor leave them.
            shape: of the preprocessed array, without channels.
            transpose_forward: of the plans.

        Raises:
            XModalError: for a case that was read otherwise, and axes that are not those of a volume at right angles.
        """
        along = direction_in_array(properties, self.direction)
        before = properties["shape_after_cropping_and_before_resampling"]
        spacing = [properties["spacing"][axis] for axis in transpose_forward]
        return FieldGeometry(
            tuple(float(mm * old / new) for mm, old, new in zip(spacing, before, shape)),
            tuple(float(along[axis]) for axis in transpose_forward),
        )


def direction_in_array(properties: dict, b0: Sequence[float]) -> np.ndarray:
    """Return the main field along the axes of a case's array as its reader returns it, `(3,)`, z, y, x.

    Args:
        properties: as nnU-Net's SimpleITK reader leaves them.
        b0: in physical space, x, y, z.

    Raises:
        XModalError: as `MeasuredField.geometry`.
    """
    if "sitk_stuff" not in properties:
        raise XModalError(
            "the case was not read by nnU-Net's SimpleITKIO, whose properties tell how the image lies in the scanner: "
            'plan the dataset with "overwrite_image_reader_writer": "SimpleITKIO" in dataset.json.'
        )
    return field_direction(properties["sitk_stuff"]["direction"], b0)


def mirror_axes(directions: Sequence[Sequence[float]], tolerance: float = 1e-3) -> tuple[int, ...]:
    """Return the axes along which all arrays may be mirrored without turning their main field.

    Mirroring negates one component of b. b and −b make the same field, so that the physics is left alone where that
    component is 0 or the only one.

    Args:
        directions: unit vectors along the array's axes.
        tolerance: below it a component counts as 0; headers hold few digits.
    """

    def allowed(axis: int, b: Sequence[float]) -> bool:
        others = [abs(component) for other, component in enumerate(b) if other != axis]
        return abs(b[axis]) < tolerance or max(others) < tolerance

    return tuple(axis for axis in range(3) if all(allowed(axis, b) for b in directions))


def distinct_directions(directions: Sequence[Sequence[float]], digits: int = 3) -> list[list[float]]:
    """Return the directions without those that are equal to these digits or reversed, for plans."""
    found: dict[tuple[float, ...], None] = {}
    for direction in directions:
        rounded = [round(float(component), digits) + 0.0 for component in direction]
        first = next((component for component in rounded if component), 1.0)
        found[tuple(component * (1 if first > 0 else -1) + 0.0 for component in rounded)] = None
    return [list(direction) for direction in found]


def angle_to_nearest(direction: Sequence[float], others: Sequence[Sequence[float]]) -> float:
    """Return the degrees between a main field and the nearest of others; signs do not matter."""
    cosines = np.abs(np.asarray(others, dtype=np.float64) @ np.asarray(direction, dtype=np.float64))
    norms = np.linalg.norm(np.asarray(others, dtype=np.float64), axis=1) * np.linalg.norm(direction)
    return float(np.rad2deg(np.arccos(np.clip(cosines / norms, 0, 1).max())))
