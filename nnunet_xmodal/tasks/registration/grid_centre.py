"""The physical point of the fixed image around which the grid is cut, and the source of that point.

In training it is the centre of the box around the organ's label, along the axes of the fixed image. At prediction, in
this order: a region of interest (`--roi`), a rough mask or a point; the label of networks that read it (`--labels`);
the centre of the box around the fixed image's non-zero voxels, which is the organ's only where the image shows little
else.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.landmarks import read_landmarks
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.files.volumes import read_volume
from nnunet_xmodal.geometry.volume_grid import any_inside, to_index, to_physical
from nnunet_xmodal.tasks.registration.case import POINT_ENDINGS, RegistrationCase
from nnunet_xmodal.tasks.registration.grid import is_organ


class GridCentre(NamedTuple):
    """The physical point around which the grid is cut.

    Attributes:
        point: physical (LPS), `(3)` in mm.
        source: "mask", "point", "label" or "non-zero region".
    """

    point: np.ndarray
    source: str


def grid_centre(case: RegistrationCase, fixed: sitk.Image, dataset_json: dict) -> GridCentre:
    """Find the centre of a case's grid, by the rule at the top of this module.

    Raises:
        XModalError: for an empty mask or label, a file that holds no point, a fixed image of nothing but zeros, and
            for a centre beyond the fixed image.
    """
    if case.roi is not None and case.roi.name.endswith(POINT_ENDINGS):
        found, file = GridCentre(_point(case.roi), "point"), case.roi
    elif case.roi is not None:
        inside = _marked(case.roi, read_volume(case.roi), inside_mask)
        found, file = GridCentre(_box_centre(inside, fixed), "mask"), case.roi
    elif case.label is not None:
        found, file = GridCentre(_box_centre(organ_points(case.label, dataset_json), fixed), "label"), case.label
    else:
        inside = np.argwhere(sitk.GetArrayViewFromImage(fixed) != 0)[:, ::-1]
        if not len(inside):
            raise XModalError(f"{case.fixed} is zero everywhere: there is nothing to register to.")
        return GridCentre(to_physical(fixed, (inside.min(0) + inside.max(0)) / 2), "non-zero region")
    if not any_inside(fixed, found.point[None]):
        raise XModalError(
            f"the centre {found.point.round(1).tolist()} mm of {file} lies outside of {case.fixed}: points are "
            "physical LPS coordinates of the fixed image (of RAS ones, x and y have the other sign)."
        )
    return found


def organ_points(file: Path, dataset_json: dict) -> np.ndarray:
    """Return the physical points `(N, 3)` in mm of a label's foreground.

    Raises:
        XModalError: where there is none.
    """
    return _marked(file, read_volume(file), lambda voxels: is_organ(voxels, dataset_json))


def _marked(file: Path, image: sitk.Image, where: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    inside = np.argwhere(where(sitk.GetArrayViewFromImage(image)))[:, ::-1]
    if not len(inside):
        raise XModalError(f"{file} is empty: mark the organ in the fixed image.")
    return to_physical(image, inside)


def _box_centre(points: np.ndarray, fixed: sitk.Image) -> np.ndarray:
    """Along the axes of the fixed image, whatever grid the mask has."""
    index = to_index(fixed, points)
    return to_physical(fixed, (index.min(0) + index.max(0)) / 2)


def _point(file: Path) -> np.ndarray:
    try:
        (point,) = read_landmarks(file).values()
    except ValueError as error:  # XModalError is one, too
        raise XModalError(
            f"{file} does not hold a single point: write a .csv with the header x,y,z and one row of physical LPS "
            "coordinates in mm, or save one point list with one point as .mrk.json from 3D Slicer."
        ) from error
    return point
