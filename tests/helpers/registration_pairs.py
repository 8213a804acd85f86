"""Pairs of images of one organ on grids of their own, where the transform between them is known."""

import csv
from functools import cache

import numpy as np
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from torch import nn

from nnunet_xmodal.geometry import rigid_transform

GRID = (12, 28, 24)
SIZE, SPACING, CENTRE = (40, 36, 18), (1.1, 1.1, 2.5), np.array([-31.0, 45.5, 210.0])
OBLIQUE = Rotation.from_euler("xyz", [14, -23, 30], degrees=True).as_matrix()
DIRECTIONS = {"straight": np.eye(3), "oblique": OBLIQUE, "left-handed": OBLIQUE @ np.diag([1.0, -1.0, 1.0])}
OTHER = Rotation.from_euler("xyz", [-8, 5, 50], degrees=True).as_matrix()
ANSWER = (3.0, -4.5, 2.0, 6.0, -9.0, 12.0)
_rng = np.random.default_rng(0)
BLOBS = _rng.uniform(-14, 14, (25, 3))
HEIGHTS = _rng.uniform(40, 120, 25)


class Known(nn.Module):
    """Finds the same six numbers in every image."""

    def __init__(self, answer=(0.0,) * 6):
        super().__init__()
        self.answer = nn.Parameter(torch.tensor([float(x) for x in answer]))
        self.seen = []

    def forward(self, x, spacing):
        self.seen.append(x)
        return self.answer.expand(len(x), 6)


def organ(points):
    """Intensities from 5 on at physical points of the fixed image's space; smooth enough for a linear interpolation."""
    places = points - CENTRE
    squared = (places**2).sum(-1, keepdims=True) - 2 * places @ BLOBS.T + (BLOBS**2).sum(-1)
    return 5 + np.exp(-squared / (2 * 5.0**2)) @ HEIGHTS


def empty(size, spacing, direction, centre):
    image = sitk.Image([int(side) for side in size], sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction.flatten().tolist())
    half = (np.array(size) - 1) / 2 * spacing
    image.SetOrigin((np.asarray(centre) - direction @ half).tolist())
    return image


def filled(image, function):
    """An image like this one with the values of a function of physical points `(…, 3)`."""
    z, y, x = np.indices(image.GetSize()[::-1])
    index = np.stack((x, y, z), -1)
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    made = sitk.GetImageFromArray(function(index @ matrix.T + image.GetOrigin()).astype(np.float32))
    made.CopyInformation(image)
    return made


def applied(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def resampling_matrix(answer, direction, initial=None, centre=CENTRE):
    """X = I·P·T⁻¹·P⁻¹, where P lays the grid's centre on `centre` and its axes on the fixed image's."""
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = direction, centre
    t = rigid_transform.matrix(torch.tensor(answer).double()).numpy()
    x = place @ np.linalg.inv(t) @ np.linalg.inv(place)
    return x if initial is None else initial @ x


def moving_of(x, size=(64, 72, 40), spacing=(1.2, 1.0, 1.9), direction=OTHER, centre=None):
    """What the fixed organ looks like to a scanner with a grid of its own, where X maps fixed to its points."""
    centre = applied(x, CENTRE) if centre is None else centre
    return _made(size, spacing, *(tuple(np.ravel(of).tolist()) for of in (direction, centre, np.linalg.inv(x))))


def fixed_of(direction=DIRECTIONS["straight"]):
    return _made(SIZE, SPACING, *(tuple(np.ravel(of).tolist()) for of in (direction, CENTRE, np.eye(4))))


def _made(*of):
    return sitk.Image(_made_once(*of))  # a copy as soon as it is written to


@cache
def _made_once(size, spacing, direction, centre, back):
    back = np.reshape(back, (4, 4))
    image = empty(size, spacing, np.reshape(direction, (3, 3)), centre)
    return filled(image, lambda points: organ(applied(back, points)))


def rows(tmp_path, name="registration.csv"):
    with open(tmp_path / "out" / name, newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def written(tmp_path, case="anna"):
    return sitk.ReadTransform(str(tmp_path / "out" / f"{case}.tfm"))


def assert_same_transform(transform, matrix):
    points = CENTRE + np.random.default_rng(1).uniform(-40, 40, (30, 3))
    theirs = np.array([transform.TransformPoint(point.tolist()) for point in points])
    assert np.abs(theirs - applied(matrix, points)).max() < 1e-3  # mm


def mark(tmp_path, folder, image, corner, size):
    """A box of ones in an image like this one, as CASE.nii.gz."""
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[tuple(slice(first, first + side) for first, side in zip(corner, size))] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    (tmp_path / folder).mkdir(exist_ok=True)
    sitk.WriteImage(mask, str(tmp_path / folder / "anna.nii.gz"))


def spoilt(image, **changes):
    array = sitk.GetArrayFromImage(image)
    for index, value in changes.pop("voxels", {}).items():
        array[index] = value
    made = sitk.GetImageFromArray(array[changes.pop("slices", slice(None))])
    made.CopyInformation(image[:, :, : made.GetSize()[2]])
    for name, value in changes.items():
        getattr(made, f"Set{name}")(value)
    return made


def shifted(image, *mm):
    return spoilt(image, Origin=np.add(image.GetOrigin(), mm).tolist())
