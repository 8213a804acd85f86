"""Slices that are one volume: parallel, of one pixel size, at even distances, straight above each other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nnunet_xmodal.errors import XModalError

_PARALLEL_TO = 1e-3  # of direction cosines
_SAME_SIZE_TO = 1e-3  # of pixels, as a share
EVEN_TO = 0.1
"""Of the distance between slices."""
_MISSING_FROM = 1.5
_MOST_ALONG = 0.5  # of the distance between slices, by which one may lie off its place
_MOST_TILT = 0.005  # rad, what is left where directions are written with two decimals


def slice_order(
    source: Path,
    names: Sequence[str],
    positions: np.ndarray,
    axes: np.ndarray,
    pixels: np.ndarray,
    several: str = "give each volume a folder of its own",
) -> list[int]:
    """Order slices along the normal of their plane, the cross product of the directions of rows and columns.

    Args:
        source: file or folder, for sentences.
        names: of the slices, likewise.
        positions: `(N, 3)`, mm, of the first pixel of each.
        axes: `(N, 2, 3)`, directions along a row and along a column.
        pixels: `(N, 2)`, mm between rows and between columns; NaN where a slice does not say.
        several: what to do with several volumes.

    Raises:
        XModalError: for slices that are not parallel, of another pixel size, several at one place, missing, uneven, or
            shifted against each other.
    """
    if np.abs(axes - axes[0]).max() > _PARALLEL_TO:
        raise XModalError(f"the slices in {source} are not parallel, as those of a localiser: give another series.")
    _check_pixels(source, names, pixels)
    normal = np.cross(*axes[0])
    normal /= np.linalg.norm(normal)
    order = np.argsort(positions @ normal, kind="stable").tolist()
    steps = np.diff(positions[order], axis=0)
    along = steps @ normal
    usual = float(np.median(along))
    if along.min() < 0.01:
        raise XModalError(
            f"{source} holds several images of one place: it is 4D (b-values, echoes or times in one series), so "
            f"{several}."
        )
    worst = int(np.abs(along - usual).argmax())
    if along.max() > _MISSING_FROM * usual:
        worst = int(along.argmax())
        raise XModalError(
            f"a slice is missing in {source}: between {names[order[worst]]} and {names[order[worst + 1]]} are "
            f"{along[worst]:.3g} mm, elsewhere {usual:.3g} mm."
        )
    if abs(along[worst] - usual) > EVEN_TO * usual:
        raise XModalError(
            f"the slices in {source} lie unevenly, {along.min():.3g} to {along.max():.3g} mm apart: resample them."
        )
    sideways = np.linalg.norm(steps - along[:, None] * normal, axis=1)
    if sideways.max() > EVEN_TO * usual:
        raise XModalError(
            f"the slices in {source} are shifted against each other by {sideways.max():.3g} mm, as with a tilted "
            "gantry: resample the series onto axes at right angles."
        )
    _check_places(source, positions[order], normal, pixels)
    return order


def _check_places(source: Path, positions: np.ndarray, normal: np.ndarray, pixels: np.ndarray) -> None:
    """Small differences add up: every slice has to lie where a volume of even distances puts it."""
    extent = float((positions[-1] - positions[0]) @ normal)
    distance = extent / (len(positions) - 1)
    away = positions - positions[0] - distance * np.arange(len(positions))[:, None] * normal
    along = np.abs(away @ normal).max()
    if along > _MOST_ALONG * distance:
        raise XModalError(
            f"the slices in {source} lie unevenly: in a volume of even distances one of them would be {along:.3g} mm "
            "from its place; resample them."
        )
    sideways = np.linalg.norm(away - (away @ normal)[:, None] * normal, axis=1).max()
    largest_pixel = float(np.nanmax(pixels)) if np.isfinite(pixels).any() else 0.0
    if sideways > max(largest_pixel / 2, _MOST_TILT * extent):
        raise XModalError(
            f"the slices in {source} are shifted against each other by {sideways:.3g} mm in all, as with a tilted "
            "gantry: resample the series onto axes at right angles."
        )


def _check_pixels(source: Path, names: Sequence[str], pixels: np.ndarray) -> None:
    known = np.isfinite(pixels).all(1)
    if not known.any():
        return
    usual = np.median(pixels[known], axis=0)
    other = known & (np.abs(pixels - usual) > _SAME_SIZE_TO * usual).any(1)
    if other.any():
        index = int(other.argmax())
        theirs, ours = ("×".join(f"{mm:.4g}" for mm in size) for size in (pixels[index], usual))
        raise XModalError(
            f"{names[index]} in {source} has pixels of {theirs} mm, other slices of {ours} mm: take it out, or give "
            "each series a folder of its own."
        )
