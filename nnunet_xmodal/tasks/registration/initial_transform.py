"""The start of the moving image before a network has seen it (`--init`).

`none` trusts both files' physical coordinates. It is the default: images of one session share them, an initial
alignment would throw that away, and images that do not overlap are refused with a sentence that names the others.
`geometry` lays the centres of both volumes on each other, for scanners that know nothing of each other, such as MR and
ultrasound. `moments` lays the centres of mass on each other; of two modalities they are different points of an organ.
A folder holds a transform or landmarks of every case, see `given_alignment`.
"""

from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.grid_chain import euler_transform
from nnunet_xmodal.tasks.registration.given_alignment import read_alignment

INITS = ("none", "geometry", "moments")


def check_init(init: str) -> None:
    """Check the value of `--init`.

    Raises:
        XModalError: for what is neither one of `INITS` nor a folder.
    """
    if init not in INITS and not Path(init).is_dir():
        raise XModalError(
            f"--init {init} is no folder: take {', '.join(INITS)}, or a folder with a transform or landmarks per case."
        )


def initial_transform(
    kind: str, fixed: sitk.Image, moving: sitk.Image, given: tuple[Path, ...] = ()
) -> sitk.Euler3DTransform:
    """Return a rigid transform, fixed → moving point in mm.

    Args:
        kind: of `INITS`.
        given: files of an alignment, which then counts instead.

    Raises:
        XModalError: for centres of mass of a constant image, and for files that hold no rigid alignment.
    """
    if given:
        return euler_transform(read_alignment(given).matrix, (0.0, 0.0, 0.0))
    transform = sitk.Euler3DTransform()
    transform.SetComputeZYX(True)
    if kind == "none":
        return transform
    if kind == "geometry":
        mode = sitk.CenteredTransformInitializerFilter.GEOMETRY
        fixed, moving = (sitk.Cast(image, sitk.sitkFloat32) for image in (fixed, moving))  # it wants both of one type
    else:
        mode = sitk.CenteredTransformInitializerFilter.MOMENTS
        fixed, moving = _above_background(fixed), _above_background(moving)
    found = sitk.CenteredTransformInitializer(fixed, moving, transform, mode)
    return sitk.Euler3DTransform(found)


def _above_background(image: sitk.Image) -> sitk.Image:
    """Intensities from 0 on: negative ones, as of CT, are no masses."""
    image = sitk.Cast(image, sitk.sitkFloat32)
    low, high = sitk.MinimumMaximum(image)
    if low == high:
        raise XModalError(f"--init moments needs images with a centre of mass, and one is {low:g} everywhere.")
    return image - low
