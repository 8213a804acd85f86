"""Orientation: along which axes of the patient an image is stored, and the same image stored along others.

Codes have a letter for each image axis x, y, z: where in the patient its index grows to, Left or Right, Posterior or
Anterior, Superior or Inferior. What is turned is only stored otherwise: axes change places and run backwards, no voxel
changes its value or its place in the patient, and turning back gives the same array again.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError

_PAIRS = ("LR", "PA", "SI")
CODES = tuple("".join(letters) for order in itertools.permutations(_PAIRS) for letters in itertools.product(*order))
"""All 48, such as LPS, which is what DICOM slices of the usual axial series are stored along."""


def checked_code(word: str) -> str:
    """Return a code in capitals.

    Raises:
        XModalError: for a word that is none.
    """
    if word.upper() not in CODES:
        raise XModalError(
            f"--orientation {word} is no orientation: give three letters, one of L and R, of P and A, and of S and I, "
            "for where x, y and z grow to, for example LPS."
        )
    return word.upper()


def code_of(direction: Sequence[float]) -> str:
    """Return the code of the nearest axes.

    Args:
        direction: nine cosines of SimpleITK, in LPS; columns are the image's x, y, z.
    """
    return sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines([float(value) for value in direction])


def oriented(image: sitk.Image, code: str) -> sitk.Image:
    """Return a volume as it is stored along other axes; voxels and their places stay."""
    return sitk.DICOMOrient(image, code)


def turned(array: np.ndarray, stored: str, wanted: str) -> np.ndarray:
    """Turn the last three axes, z, y, x, of an array.

    Args:
        array: `(..., z, y, x)`.
        stored, wanted: codes before and after.

    Returns:
        A contiguous copy; `turned(turned(a, s, w), w, s)` is `a`.
    """
    sources, backwards = _plan(stored, wanted)
    first = array.ndim - 3
    axes = [*range(first), *(first + 2 - source for source in sources[::-1])]  # z first
    result = array.transpose(axes)
    flips = tuple(first + 2 - axis for axis, flip in enumerate(backwards) if flip)
    return np.ascontiguousarray(np.flip(result, flips) if flips else result)


def turned_place(
    size: Sequence[int], spacing: Sequence[float], origin: Sequence[float], direction: Sequence[float], wanted: str
) -> dict[str, tuple[float, ...]]:
    """Return spacing, origin and direction, x first, of an image that is turned.

    Args:
        size: voxels along x, y, z before.
        spacing, origin: mm along x, y, z.
        direction: nine cosines, columns x, y, z.
    """
    axes = np.reshape(np.asarray(direction, float), (3, 3))
    sources, backwards = _plan(code_of(direction), wanted)
    start = np.asarray(origin, float)
    for source, flip in zip(sources, backwards):
        if flip:
            start = start + axes[:, source] * spacing[source] * (size[source] - 1)
    columns = np.stack([-axes[:, s] if flip else axes[:, s] for s, flip in zip(sources, backwards)], 1)
    return {
        "spacing": tuple(float(spacing[source]) for source in sources),
        "origin": tuple(float(value) for value in start),
        "direction": tuple(float(value) for value in columns.ravel()),
    }


def turned_numbers(numbers: Sequence[float], stored: str, wanted: str) -> list[float]:
    """Return what belongs to the axes x, y, z, such as spacings, in the order of the wanted axes."""
    return [numbers[source] for source in _plan(stored, wanted)[0]]


def only_backwards(stored: str, wanted: str) -> bool:
    """Return whether the axes stay in their places, and some at most run the other way."""
    return _plan(stored, wanted)[0] == [0, 1, 2]


def towards_lps(code: str) -> str:
    """Return the code of the same axes in the same places, all running to the left, the back and the head."""
    return "".join(next(letter for letter in "LPS" if pair_of(letter) == pair_of(other)) for other in code)


def pair_of(letter: str) -> str:
    """Return both ends of the patient's axis that a letter is an end of."""
    return next(pair for pair in _PAIRS if letter in pair)


def backward_axes(stored: str, wanted: str) -> list[int]:
    """Return which of the wanted axes 0, 1, 2 (x, y, z) run the other way than the stored ones."""
    return [axis for axis, backwards in enumerate(_plan(stored, wanted)[1]) if backwards]


def source_of(axis: int, stored: str, wanted: str) -> tuple[int, bool]:
    """Return which stored axis 0, 1, 2 (x, y, z) a wanted one is, and whether it runs the other way."""
    sources, backwards = _plan(stored, wanted)
    return sources[axis], backwards[axis]


def _plan(stored: str, wanted: str) -> tuple[list[int], list[bool]]:
    """For each wanted axis x, y, z the stored one that it is, and whether it runs backwards."""
    sources, backwards = [], []
    for letter in wanted:
        source = next(axis for axis, other in enumerate(stored) if other in pair_of(letter))
        sources.append(source)
        backwards.append(stored[source] != letter)
    return sources, backwards
