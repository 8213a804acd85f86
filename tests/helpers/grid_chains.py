"""Chains of a fixed image that was cropped, transposed and resampled, and transforms on their grids."""

import numpy as np
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import GridChain

OBLIQUE = Rotation.from_euler("xyz", [24, -13, 40], degrees=True).as_matrix()
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "LAS": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": OBLIQUE @ np.diag([1.0, 1.0, -1.0]),
    "axes swapped": np.eye(3)[[1, 2, 0]],
}
SHEARED = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


def chain_of(direction="oblique", transpose_forward=(0, 1, 2), size=(12, 24, 20), centre=(7.4, 14.0, 11.3)):
    """A fixed image of 27×33×22 voxels (x y z), cropped, and resampled to another shape."""
    properties = {
        "sitk_stuff": {
            "spacing": (0.7, 0.9, 2.9),
            "origin": (-431.7, 88.25, 1204.5),
            "direction": tuple(DIRECTIONS.get(direction, SHEARED).flatten()),
        },
        "bbox_used_for_cropping": [[1, 21], [3, 30], [2, 26]],
        "shape_after_cropping_and_before_resampling": (20, 27, 24),
    }
    return GridChain.from_properties(properties, transpose_forward, (23, 29, 21), size, centre)


def image_of(chain, array):
    """The grid as an image of its own with the geometry that the chain says; axes are those of the grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(chain.effective_spacing[::-1])
    directions = chain.grid_to_physical[:3, :3]
    image.SetDirection(directions.flatten().tolist())
    first = -(np.array(chain.size) - 1) / 2 * chain.effective_spacing
    image.SetOrigin(chain.to_physical(first[::-1]).tolist())
    return image


def random_transform(translation=6.0, angle=20.0):
    limits = torch.tensor([translation] * 3 + [angle] * 3).double()
    return rigid_transform.matrix((2 * torch.rand(6).double() - 1) * limits)
