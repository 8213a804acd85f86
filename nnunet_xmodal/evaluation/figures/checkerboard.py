"""Fixed and moving image in the fields of a checkerboard: edges go on across fields where both are registered."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nnunet_xmodal.evaluation.figures.plain_text import plain_text
from nnunet_xmodal.files.atomic import write_atomically

_FIELDS = 8  # along the longer side of a plane
_INCH = 3.0  # side of a panel
_PLANES = ("z", "y", "x")  # of the array's axes


def checkerboard(a: np.ndarray, b: np.ndarray, field: Sequence[float]) -> np.ndarray:
    """Mix two images: a where the sum of the field's two numbers is even, b elsewhere.

    Args:
        a, b: `(H, W)`.
        field: height and width in pixels; the middle of the image is a corner of four fields.
    """
    numbers = [np.floor((np.arange(side) - side / 2) / size).astype(int) for side, size in zip(a.shape, field)]
    return np.where((numbers[0][:, None] + numbers[1]) % 2 == 0, a, b)


def draw_checkerboards(
    fixed: sitk.Image, before: sitk.Image, after: sitk.Image, centre: Sequence[int], file: str | Path
) -> None:
    """Write a PNG of three planes through a voxel, in two rows: the moving image at the start and registered.

    Each image has grey values of its own, from its 1st to its 99th percentile in the plane.

    Args:
        before, after: the moving image on the grid of the fixed one.
        centre: index of the voxel, z, y, x.
    """
    spacing = fixed.GetSpacing()[::-1]
    arrays = [sitk.GetArrayViewFromImage(image) for image in (fixed, before, after)]
    shown = [[_grey(plane) for plane in _planes(array, centre)] for array in arrays]
    figure = Figure(figsize=(3 * _INCH, 2 * (_INCH + 0.2)), dpi=150, layout="constrained")
    for row, name, moving in zip(figure.subplots(2, 3), ("before", "after"), shown[1:]):
        for axis, panel, plane in zip(range(3), row, _PLANES):
            height, width = (spacing[other] for other in range(3) if other != axis)
            a, b = shown[0][axis], moving[axis]
            millimetres = max(a.shape[0] * height, a.shape[1] * width) / _FIELDS
            board = checkerboard(a, b, (millimetres / height, millimetres / width))
            upright = {} if axis == 0 else {"origin": "lower"}  # z runs upwards
            panel.imshow(board, cmap="gray", vmin=0, vmax=1, aspect=height / width, interpolation="nearest", **upright)
            panel.set_title(f"{plain_text(name)}, {plane} = {centre[axis]}", fontsize=8)
            panel.set_axis_off()
    write_atomically(file, lambda name: FigureCanvasAgg(figure).print_png(name))


def _planes(array: np.ndarray, centre: Sequence[int]) -> list[np.ndarray]:
    return [np.take(array, index, axis) for axis, index in enumerate(centre)]


def _grey(plane: np.ndarray) -> np.ndarray:
    low, high = np.percentile(plane, (1, 99))
    return np.clip((plane - low) / max(high - low, 1e-6), 0, 1)
