"""Networks, a grid and files for predictions of susceptibility."""

import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from torch import nn

SHAPE, SPACING, ORIGIN = (9, 20, 14), (0.9, 1.3, 2.5), (-10.0, 20.0, 5.0)  # z y x; x y z
OBLIQUE = Rotation.from_euler("ZYX", (10, -20, 15), degrees=True).as_matrix()
CROP = (slice(1, -1), slice(3, -2), slice(2, -3))  # of the fixture's brain, which nnU-Net cuts out


class Scaled(nn.Module):
    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.seen = []

    def forward(self, x):
        self.seen.append(x.abs().max().item())
        return self.weight * x[:, :1]


def read(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def outputs(tmp_path):
    return sorted(path.name for path in (tmp_path / "out").iterdir())
