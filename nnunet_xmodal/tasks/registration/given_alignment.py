"""Alignments of new pairs that somebody has made, a file or two per case: where to begin, or what is right.

A case's alignment is a transform, `<case>.tfm` or of another ending, or landmarks of the same names in both images,
`<case>_0000` and `<case>_0001`. Both map points of the fixed image to the moving one, in LPS millimetres.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.landmarks import read_landmarks
from nnunet_xmodal.geometry.given_transform import fit_landmarks, read_transform

TRANSFORMS = (".tfm", ".txt", ".h5", ".npy")
LANDMARKS = (".mrk.json", ".fcsv", ".csv", ".nii.gz", ".nii", ".mha", ".nrrd")


@dataclass(frozen=True)
class GivenAlignment:
    """An alignment as it was read.

    Attributes:
        matrix: fixed → moving point, `(4, 4)` float64 in mm; of landmarks their best rigid fit.
        fixed_points, moving_points: landmarks of one name, `(N, 3)` in LPS mm, none of a transform.
    """

    matrix: np.ndarray
    fixed_points: np.ndarray
    moving_points: np.ndarray


def alignment_files(folder: str | Path, case: str, flag: str) -> tuple[Path, ...]:
    """Return the file of a case's transform, or those of its landmarks in the fixed and the moving image.

    Args:
        flag: that names the folder, for messages.

    Raises:
        XModalError: where there is neither, or landmarks of one image alone.
    """
    for ending in TRANSFORMS:
        if (file := Path(folder) / f"{case}{ending}").is_file():
            return (file,)
    found = []
    for number in range(2):
        files = [Path(folder) / f"{case}_{number:04d}{ending}" for ending in LANDMARKS]
        found.append(next((file for file in files if file.is_file()), None))
    fixed, moving = found
    if fixed is not None and moving is not None:
        return fixed, moving
    if fixed is not None or moving is not None:
        raise XModalError(
            f"{fixed or moving} has no counterpart: landmarks are those of both images, {case}_0000 and {case}_0001."
        )
    raise XModalError(
        f"{flag} {folder} holds no alignment of {case}: give a transform, {case}{TRANSFORMS[0]} (or one that ends in "
        f"{', '.join(TRANSFORMS[1:])}), or landmarks of both images, {case}_0000 and {case}_0001 with "
        f"{', '.join(LANDMARKS)}."
    )


def read_alignment(files: tuple[Path, ...]) -> GivenAlignment:
    """Read what `alignment_files` has found.

    Raises:
        XModalError: for files that hold neither, a transform that is not rigid, and fewer than three common landmarks.
    """
    if len(files) == 1:
        return GivenAlignment(read_transform(files[0]), np.empty((0, 3)), np.empty((0, 3)))
    fixed, moving = map(read_landmarks, files)
    try:
        matrix, _ = fit_landmarks(fixed, moving)
    except XModalError as error:
        raise XModalError(f"{files[0]}, {files[1]}: {error}") from error
    names = [name for name in fixed if name in moving]
    return GivenAlignment(matrix, *(np.array([points[name] for name in names]) for points in (fixed, moving)))
