"""The smallest box around the voxels of a mask: what is worth computing lies in it."""

import numpy as np


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """Return the smallest box around the voxels of a mask.

    Args:
        mask: bool, any number of dimensions.
        margin: voxels added on every side, as far as the image reaches. With 1, an axis of the box has size 1 only
            where that of the image has.

    Returns:
        A slice per axis; of length 0 where the mask is empty.
    """
    box = []
    for axis in range(mask.ndim):
        # each axis only looks at what the axes before it have left
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        if not len(occupied):
            return (slice(0, 0),) * mask.ndim
        size = mask.shape[axis]
        mask = mask[(slice(None),) * axis + (slice(occupied[0], occupied[-1] + 1),)]
        box.append(slice(max(int(occupied[0]) - margin, 0), min(int(occupied[-1]) + 1 + margin, size)))
    return tuple(box)
