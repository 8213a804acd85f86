"""Ellipsoids on a grid: an organ, and what lies within it without touching."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

Kind = TypeVar("Kind")

_ATTEMPTS = 50  # an organ full of ellipsoids may have no room for another one


class Ellipsoid(NamedTuple):
    """An ellipsoid along the axes of the grid.

    Attributes:
        centre: mm from the centre of the grid, along z, y, x.
        radii: mm along z, y, x.
    """

    centre: np.ndarray
    radii: np.ndarray

    def mask(self, millimetres: np.ndarray) -> np.ndarray:
        """Return which voxels lie inside, bool `(z, y, x)`; `millimetres` see `millimetres_from_centre`."""
        offset = (millimetres - self.centre[:, None, None, None]) / self.radii[:, None, None, None]
        return (offset**2).sum(0) <= 1


def millimetres_from_centre(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Return every voxel's place from the centre of the grid, `(3, z, y, x)` in mm."""
    axes = [(np.arange(side) - (side - 1) / 2) * mm for side, mm in zip(shape, spacing)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def ellipsoids_within(
    organ: Ellipsoid, rng: np.random.Generator, kinds: Iterable[Kind], size: tuple[float, float], gap: float
) -> Iterator[tuple[Ellipsoid, Kind]]:
    """Yield an ellipsoid at a random place within an organ for every kind; kinds for which there is no room are left
    out.

    Args:
        kinds: of whatever sort, in the order in which they get their places.
        size: range of the mean radius in mm, of which each radius differs by a fifth at most.
        gap: mm between the spheres around any two of them, at least.
    """
    placed: list[Ellipsoid] = []
    for kind in kinds:
        for _ in range(_ATTEMPTS):
            radii = rng.uniform(*size) * rng.uniform(0.8, 1.2, 3)
            reach = radii.max()
            direction = rng.normal(size=3)
            fraction = rng.uniform() ** (1 / 3)  # uniform in the ellipsoid
            centre = organ.centre + fraction * direction / np.linalg.norm(direction) * (organ.radii - reach)
            if all(np.linalg.norm(centre - other.centre) > reach + other.radii.max() + gap for other in placed):
                placed.append(Ellipsoid(centre, radii))
                yield placed[-1], kind
                break
