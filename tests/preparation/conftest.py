"""Scans of one world on grids of any kind, as NIfTI files and as DICOM series."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from figures import one_pixel
from preparation_runs import ADC, T2W
from scipy.spatial.transform import Rotation

from nnunet_xmodal.preparation import case_files

OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
LANDMARKS = np.array([[-9.0, -7.0, -6.0], [8.0, -6.0, 5.0], [-6.0, 9.0, 7.0], [9.0, 8.0, -7.0]])  # physical mm


def grid_around(size: Sequence[int], spacing: Sequence[float], direction: np.ndarray, centre=(0.0, 0.0, 0.0)):
    """An empty image, x y z, whose grid is centred on a physical point."""
    image = sitk.Image(list(size), sitk.sitkFloat32)
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetDirection(np.asarray(direction, float).ravel().tolist())
    image.SetOrigin((np.asarray(centre) - direction @ ((np.array(size) - 1) / 2 * spacing)).tolist())
    return image


def points_of(image: sitk.Image) -> np.ndarray:
    """`(z, y, x, 3)`: physical point of every voxel."""
    index = np.stack(np.meshgrid(*[np.arange(side) for side in image.GetSize()], indexing="ij"), -1)
    points = index * np.array(image.GetSpacing()) @ np.reshape(image.GetDirection(), (3, 3)).T + image.GetOrigin()
    return points.transpose(2, 1, 0, 3)


def scan_of(grid: sitk.Image, seen=lambda points: points, height: float = 1000.0) -> sitk.Image:
    """What a scanner sees of four blobs, each about 6 mm wide, `seen` mapping its points to those of the world."""
    points = seen(points_of(grid))
    squared = ((points[..., None, :] - LANDMARKS) ** 2).sum(-1)
    image = sitk.GetImageFromArray((height * np.exp(-squared / (2 * 2.5**2)).sum(-1)).astype(np.float32))
    image.CopyInformation(grid)
    return image


def ball_of(grid: sitk.Image, radius: float = 8.0, centre=(0.0, 0.0, 0.0), value: int = 1) -> sitk.Image:
    inside = ((points_of(grid) - centre) ** 2).sum(-1) < radius**2
    image = sitk.GetImageFromArray((value * inside).astype(np.uint8))
    image.CopyInformation(grid)
    return image


def write(image: sitk.Image, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


def write_dicom(
    image: sitk.Image,
    folder: Path,
    patient: str = "Anna",
    series: str = "1.2.3",
    slopes: Sequence[float] = (),
    names=lambda index: f"IMG-{index:04d}",
) -> Path:
    """A file per slice; a series number of its own for each with `series=""`.

    Args:
        slopes: RescaleSlope of each slice; the stored integers are the image's values over it.
        names: of the slice at an index of z.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for index in range(image.GetSize()[2]):
        part = image[:, :, index : index + 1]
        if slopes:
            part = sitk.Cast(part, sitk.sitkFloat64)
            part.SetMetaData("0028|1053", str(slopes[index]))
            part.SetMetaData("0028|1052", "0")
            part.SetMetaData("0028|0100", "16")
            part.SetMetaData("0028|0101", "16")
            part.SetMetaData("0028|0102", "15")
            part.SetMetaData("0028|0103", "1")
        else:
            part = sitk.Cast(part, sitk.sitkInt16)
        part.SetMetaData("0010|0020", patient)
        part.SetMetaData("0008|0060", "MR")
        part.SetMetaData("0020|000d", "1.2")
        part.SetMetaData("0020|000e", series or f"1.2.3.{index}")
        part.SetMetaData("0008|0018", f"1.2.4.{abs(hash((str(folder), series))) % 10**6}.{index}")
        part.SetMetaData("0020|0013", str(index + 1))
        part.SetMetaData("0020|0052", "1.2.9")
        file = str(folder / f"{names(index)}.dcm")
        writer.SetFileName(file)
        for _ in range(2):  # before it has read anything GDCM takes a fractional slice for an enhanced one
            writer.Execute(part)
            sitk.ReadImage(file)
    return folder


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A pixel for the figure of every case, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(case_files, "draw_case", one_pixel)


@pytest.fixture
def raw(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "nnUNet_raw"
    monkeypatch.setenv("nnUNet_raw", str(folder))
    return folder


class Scans:
    """The functions above, for tests, which cannot import this file."""

    oblique, landmarks = OBLIQUE, LANDMARKS
    grid_around = staticmethod(grid_around)
    points_of = staticmethod(points_of)
    scan_of = staticmethod(scan_of)
    ball_of = staticmethod(ball_of)
    write = staticmethod(write)
    write_dicom = staticmethod(write_dicom)


@pytest.fixture(scope="session")
def scans() -> type[Scans]:
    return Scans


@pytest.fixture
def patients(scans, tmp_path):
    """Three folders of two scans and a label, each oblique in its own way."""
    folder = tmp_path / "patients"
    for name in ("anna", "bert", "carl"):
        t2w = scans.grid_around(*T2W, scans.oblique)
        scans.write(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), folder / name / "t2w.nii.gz")
        scans.write(scans.scan_of(scans.grid_around(*ADC, np.eye(3))), folder / name / "adc.mha")
        scans.write(scans.ball_of(t2w), folder / name / "seg.nii.gz")
    return folder
