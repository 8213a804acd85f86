"""To what size features are pooled before all their positions are compared."""

from collections.abc import Sequence
from math import prod


def at_most(size: Sequence[int], positions: int) -> tuple[int, ...]:
    """Return the size with the same proportions and at most this many positions: `(96, 80)`, 1024 → `(35, 29)`."""
    sides = list(size)
    while True:
        scale = min(1.0, (positions / prod(sides)) ** (1 / len(sides)))
        shrinkable = [side for side in sides if side * scale >= 1]
        if len(shrinkable) == len(sides):
            return tuple(max(1, int(side * scale)) for side in size)
        sides = shrinkable  # a side that cannot go below one position leaves the rest to the others
