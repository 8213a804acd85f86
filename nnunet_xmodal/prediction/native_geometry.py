"""From the network's grid back to the grid of a case, and from arrays to images that lie where the case lies."""

from collections.abc import Callable

import numpy as np
import SimpleITK as sitk
from acvl_utils.cropping_and_padding.bounding_boxes import insert_crop_into_image
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.prediction.turning import as_stored


def images_in_native_geometry(
    images: np.ndarray, properties: dict, plans: PlansManager, configuration: ConfigurationManager
) -> np.ndarray:
    """Return images `(channels, *spatial)` on the case's own grid; see `in_native_geometry`.

    They are resampled by the plans' own function for images, not by the one for segmentations, which is linear.
    """
    return in_native_geometry(images, properties, plans, configuration, configuration.resampling_fn_data)


def in_native_geometry(
    volumes: np.ndarray,
    properties: dict,
    plans: PlansManager,
    configuration: ConfigurationManager,
    resample: Callable[..., np.ndarray],
) -> np.ndarray:
    """Resample predicted volumes, then undo nnU-Net's crop and transposition.

    Args:
        volumes: `(channels, *spatial)` as predicted.
        properties: what nnU-Net's preprocessor has noted about the case.
        resample: `(volumes, new shape, spacing, new spacing)` → volumes, one of the plans' functions.

    Returns:
        float32 `(channels, *spatial)` as the case's reader returns them; 0 outside nnU-Net's crop.
    """
    spacing = [properties["spacing"][axis] for axis in plans.transpose_forward]
    cropped = properties["shape_after_cropping_and_before_resampling"]
    planned = list(configuration.spacing)
    if len(planned) != len(cropped):  # 2d plans leave the slice axis as it is
        planned = [spacing[0], *planned]
    resampled = np.asarray(resample(np.asarray(volumes, np.float32), cropped, planned, spacing), dtype=np.float32)
    native = np.zeros((len(volumes), *properties["shape_before_cropping"]), dtype=np.float32)
    native = insert_crop_into_image(native, resampled, properties["bbox_used_for_cropping"])
    return native.transpose(0, *(axis + 1 for axis in plans.transpose_backward))


def crop_of_case(properties: dict, plans: PlansManager) -> tuple[slice, ...]:
    """Return nnU-Net's crop along the axes of an array as the case's reader returns it."""
    box = properties["bbox_used_for_cropping"]
    return tuple(slice(*box[axis]) for axis in plans.transpose_backward)


def with_geometry(array: np.ndarray, properties: dict) -> sitk.Image:
    """Return a volume `(z, y, x)` as an image that lies where the case lies.

    Args:
        properties: of nnU-Net's reader, whichever it was.
    """
    array, properties = as_stored(array, properties)
    geometry = properties.get("sitk_stuff")
    if "nibabel_stuff" in properties:
        geometry = _geometry_of(properties["nibabel_stuff"])
    if geometry is None:  # readers of natural images keep the spacing (z, y, x) only
        image = sitk.GetImageFromArray(array)
        image.SetSpacing([float(s) for s in properties["spacing"][::-1]])
        return image
    if len(geometry["spacing"]) == 2:
        array = array[0]
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(geometry["spacing"])
    image.SetOrigin(geometry["origin"])
    image.SetDirection(geometry["direction"])
    if "original_orientation" in geometry:  # SimpleITKIOWithReorient has turned axes and mirrored them
        image = sitk.DICOMOrient(image, geometry["original_orientation"])
    return image


def _geometry_of(nibabel_stuff: dict) -> dict:
    """Spacing, origin and direction in ITK's convention (LPS) from the affine of nnU-Net's nibabel readers (RAS)."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ nibabel_stuff.get("reoriented_affine", nibabel_stuff["original_affine"])
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return {
        "spacing": spacing.tolist(),
        "origin": affine[:3, 3].tolist(),
        "direction": (affine[:3, :3] / spacing).flatten().tolist(),
    }
