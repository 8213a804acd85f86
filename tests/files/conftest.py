"""NIfTI files as scripts and other programs leave them, in a raw dataset of two sound cases."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SHAPE = (6, 5, 4)


def moved(x: float = 0, y: float = 0, z: float = 0) -> np.ndarray:
    """The usual affine somewhere else."""
    affine = AFFINE.copy()
    affine[:3, 3] = x, y, z
    return affine


def with_forms(voxels: np.ndarray, sform: np.ndarray | None, qform: np.ndarray | None) -> nibabel.Nifti1Image:
    """An image whose header says its place once, twice or, without both, not at all."""
    image = nibabel.Nifti1Image(voxels, None)
    image.header.set_zooms((1, 1, 2)[: voxels.ndim])
    image.set_sform(sform, 0 if sform is None else 2)
    image.set_qform(qform, 0 if qform is None else 1)
    return image


def packed(file: Path, offset: int, form: str, *values: float) -> None:
    """Writes numbers into a header, past what nibabel would let through."""
    content = bytearray(file.read_bytes())
    struct.pack_into(form, content, offset, *values)
    file.write_bytes(content)


class Nifti:
    """The functions above, for tests, which cannot import this file."""

    affine, shape = AFFINE, SHAPE
    moved = staticmethod(moved)
    with_forms = staticmethod(with_forms)
    packed = staticmethod(packed)

    @staticmethod
    def voxels(seed: int = 0) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)

    @staticmethod
    def label() -> np.ndarray:
        label = np.zeros(SHAPE, np.uint8)
        label[2:4, 1:4, 1:3] = 1
        return label

    @staticmethod
    def colours(numbers: str) -> np.ndarray:
        return np.zeros(SHAPE, [(name, "u1") for name in numbers])


@pytest.fixture(scope="session")
def nifti() -> type[Nifti]:
    return Nifti


@pytest.fixture
def raw(tmp_path, nifti) -> Callable[..., tuple[Path, dict]]:
    """Writes two cases of two channels; file endings other than .nii.gz choose another reader of nnU-Net."""

    def write(ending: str = ".nii.gz", **more) -> tuple[Path, dict]:
        folder = tmp_path / "Dataset001_Raw"
        for place in ("imagesTr", "labelsTr"):
            (folder / place).mkdir(parents=True)
        for case in ("a", "b"):
            for channel in range(2):
                image = nibabel.Nifti1Image(nifti.voxels(channel), AFFINE)
                nibabel.save(image, folder / "imagesTr" / f"{case}_000{channel}{ending}")
            nibabel.save(nibabel.Nifti1Image(nifti.label(), AFFINE), folder / "labelsTr" / f"{case}{ending}")
        description = {
            "channel_names": {"0": "T2W", "1": "ADC"},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": 2,
            "file_ending": ending,
            **more,
        }
        (folder / "dataset.json").write_text(json.dumps(description))
        return folder, description

    return write
