"""Alignments that somebody has made: transforms in files, and pairs of landmarks.

All are rigid and in LPS millimetres, as SimpleITK's, and map points of the fixed image to the moving one, as a
transform does that resamples the moving image onto the fixed grid.
"""

from io import StringIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.affine import applied
from nnunet_xmodal.geometry.grid_chain import physical_matrix

_FEWEST = 3


def read_transform(file: Path) -> np.ndarray:
    """Read a rigid or affine transform.

    Args:
        file: a transform of SimpleITK (`.tfm`, `.txt`, `.h5`), or a 4×4 matrix (`.npy`, or 16 numbers in a `.txt`).

    Returns:
        `(4, 4)` in mm.

    Raises:
        XModalError: for a file that is neither, and a transform that is not rigid or written for points as rows.
    """
    try:
        if file.suffix == ".npy":
            matrix = np.load(file, allow_pickle=False)
        elif file.suffix == ".txt" and not file.read_text(encoding="utf-8-sig").startswith("#Insight"):
            text = file.read_text(encoding="utf-8-sig")
            matrix = np.loadtxt(StringIO(text), delimiter="," if "," in text else None)
            matrix = matrix.reshape(4, 4) if matrix.size == 16 else matrix
        else:
            matrix = sitk.ReadTransform(str(file))
    except (OSError, EOFError, ValueError, RuntimeError, BadZipFile) as error:
        raise XModalError(f"{file} is neither a transform of SimpleITK nor a 4×4 matrix: replace it.") from error
    if isinstance(matrix, sitk.Transform) and matrix.GetDimension() != 3:
        raise XModalError(f"{file} is a transform of {matrix.GetDimension()} dimensions: give one of volumes.")
    if isinstance(matrix, np.ndarray) and matrix.shape != (4, 4):
        raise XModalError(
            f"{file} holds {'×'.join(map(str, matrix.shape))} numbers: a rigid transform is a 4×4 matrix."
        )
    if not isinstance(matrix, sitk.Transform) and (
        not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "iuf"
    ):
        raise XModalError(f"{file} holds no numbers: a rigid transform is a 4×4 matrix of them.")
    if isinstance(matrix, np.ndarray) and not np.isfinite(matrix).all():
        raise XModalError(f"{file} holds NaN or infinity: a rigid transform is sixteen numbers.")
    if isinstance(matrix, np.ndarray) and not np.allclose(matrix[3], (0, 0, 0, 1)):
        raise XModalError(
            f"{file} has {' '.join(f'{number:g}' for number in matrix[3])} as its last row, where 0 0 0 1 belongs: "
            "transpose the matrix if its points are rows."
        )
    try:
        return physical_matrix(matrix)
    except XModalError as error:
        raise XModalError(f"{file}: {error}") from error


def fit_landmarks(fixed: dict[str, np.ndarray], moving: dict[str, np.ndarray]) -> tuple[np.ndarray, float]:
    """Fit the rotation and shift with the smallest squared distances between landmarks of one name (Kabsch, 1976).

    Returns:
        `(4, 4)`, fixed → moving point, and the root mean square of the distances that are left, in mm.

    Raises:
        XModalError: for fewer than three common landmarks, or all of them on one line.
    """
    names = [name for name in fixed if name in moving]
    if len(names) < _FEWEST:
        raise XModalError(
            f"the images have {len(names)} landmarks of one name in common: a rigid transform needs at least {_FEWEST}."
        )
    a, b = (np.array([points[name] for name in names], float) for points in (fixed, moving))
    for image, points in (("fixed", a), ("moving", b)):
        spread = np.linalg.svd(points - points.mean(0), compute_uv=False)
        if spread[1] <= 1e-6 * max(spread[0], 1e-12):
            raise XModalError(
                f"the landmarks of the {image} image lie on one line, which leaves the rotation about it open: add one "
                "beside the line."
            )
    rotation, _ = Rotation.align_vectors(b - b.mean(0), a - a.mean(0))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation.as_matrix()
    matrix[:3, 3] = b.mean(0) - matrix[:3, :3] @ a.mean(0)
    left = applied(matrix, a) - b
    return matrix, float(np.sqrt((left**2).sum(1).mean()))
