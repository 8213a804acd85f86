"""Scans of noise with an organ in their middle, and files of them."""

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

DATASET, SIZE, SPACING = "Dataset999_Tiny", (26, 22, 12), (1.0, 1.3, 2.5)
OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "axes swapped": np.eye(3)[[1, 2, 0]],
}


def image_of(array, direction=OBLIQUE, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(np.asarray(direction).ravel().tolist())
    image.SetOrigin((100.0, -40.0, 7.0))
    return image


def noise(seed):
    return np.random.default_rng(seed).normal(100, 30, SIZE[::-1]).astype(np.float32)


def block(*slices, value=1):
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[slices] = value
    return mask


ORGAN = block(slice(3, 7), slice(6, 15), slice(5, 14))
EVERYTHING = block(slice(None))


def write(image, *place):
    file = place[0].joinpath(*place[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def probabilities(file):
    return np.load(file)["probabilities"]


def turn_files(folder, code):
    """Store every image below a folder along other axes."""
    for file in sorted(folder.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), code), str(file))
