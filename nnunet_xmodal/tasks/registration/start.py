"""The start of a case at prediction: its initial transform and the centre of its grid, and whether both make sense."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.two_places import check_moved_alike, two_places
from nnunet_xmodal.files.volumes import check_not_constant, check_same_unit, read_volume
from nnunet_xmodal.geometry.affine import applied
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.geometry.volume_grid import any_inside, lattice, overlap
from nnunet_xmodal.tasks.registration.case import POINT_ENDINGS, RegistrationCase
from nnunet_xmodal.tasks.registration.grid_centre import GridCentre, grid_centre, organ_points
from nnunet_xmodal.tasks.registration.initial_transform import initial_transform


@dataclass(frozen=True)
class Start:
    """The start of a case: fixed → moving point in mm, and the point of the fixed image around which the grid lies."""

    initial: sitk.Euler3DTransform
    centre: GridCentre


@dataclass(frozen=True)
class StartFinder:
    """Finds the start of a case and refuses what cannot be registered from there.

    Attributes:
        init: of `INITS`, or a folder of alignments.
        configuration: of the plans, whose grid it is.
    """

    init: str
    configuration: ConfigurationManager
    dataset_json: dict

    def __call__(self, case: RegistrationCase) -> Start:
        """Return the start.

        Raises:
            XModalError: for files that cannot be read, images that do not meet there, and constant ones.
        """
        fixed, moving = (read_volume(file) for file in (case.fixed, case.moving))
        if case.label is not None:
            read_volume(case.label)
        check_same_unit(fixed, moving, case.fixed, case.moving)
        _check_places(case)
        initial = initial_transform(self.init, fixed, moving, case.init)
        matrix = physical_matrix(initial)
        if case.init:
            way_out = f"look at {case.init[0]}, which has to map fixed to moving points"
        else:
            way_out = "begin with centre on centre, --init geometry" if self.init == "none" else "try --init none"
        if not overlap(fixed, moving, matrix):
            raise XModalError(f"{case.moving} does not overlap with {case.fixed} in physical space: {way_out}.")
        centre = grid_centre(case, fixed, self.dataset_json)
        half = np.multiply(self.configuration.patch_size, self.configuration.spacing)[::-1] / 2
        place = np.eye(4)
        place[:3, :3], place[:3, 3] = np.reshape(fixed.GetDirection(), (3, 3)), centre.point
        points = lattice(place, -half, half)
        if not any_inside(moving, applied(matrix, points)):
            raise XModalError(
                f"{case.moving} does not reach into the grid around {centre.point.round(1).tolist()} mm, the centre of "
                f"the {centre.source} of {case.fixed}: {way_out}, or show where the organ is with --roi."
            )
        if case.label is not None:
            offsets = (organ_points(case.label, self.dataset_json) - centre.point) @ place[:3, :3]
            if not (np.abs(offsets) <= half).all(-1).any():
                raise XModalError(
                    f"{case.label} does not reach into the grid around {centre.point.round(1).tolist()} mm, the "
                    f"{centre.source} of {case.roi}: it lies elsewhere than the label."
                )
        for image, file in ((fixed, case.fixed), (moving, case.moving)):
            check_not_constant(image, file)
        return Start(initial, centre)


def _check_places(case: RegistrationCase) -> None:
    """A mask belongs to the fixed image, whoever reads the two; where the moving image begins is said at least."""
    masks = [file for file in (case.roi, case.label) if file and not file.name.endswith(POINT_ENDINGS)]
    check_moved_alike([case.fixed, *masks])
    for places in (two_places(case.fixed), two_places(case.moving)):
        if places is not None:
            remark(f"{places.file} lies at two places: {places.described()}; transforms are for ITK's.")
