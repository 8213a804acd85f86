"""Images and label maps with their geometry, in every format that nnU-Net reads; damage is noticed."""

from pathlib import Path

import nibabel
import numpy as np
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_xmodal.errors import XModalError

_TOLERANCE = 1e-3
"""Of spacing and origin in mm and of direction cosines; single precision headers differ by less."""


def read_image(file: Path, dataset_json: dict, is_label: bool) -> tuple[np.ndarray, dict]:
    """Voxels and geometry of one file.

    Args:
        dataset_json: names nnU-Net's reader, or leaves it to the file's ending.

    Returns:
        `(C, z, y, x)`, as nnU-Net reads it; files of one slice may lack z. The geometry has `size` (voxels) and
        `spacing` (mm) in the same order, and where the format knows them `origin` (mm) and `direction` (cosines) in x,
        y, z.

    Raises:
        XModalError: if the file cannot be read in full.
    """
    try:
        if file.name.endswith((".nii", ".nii.gz")):
            return _read_nifti(file)
        return _read_like_nnunet(file, dataset_json, is_label)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise XModalError(f"{file} cannot be read ({reason}): replace it by an intact file.") from error


def _read_nifti(file: Path) -> tuple[np.ndarray, dict]:
    """With nibabel: ITK's reader turns NaN into zero and fills up a truncated file, without a word."""
    image = nibabel.load(file)
    affine = image.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # a spacing of 0 is left to the caller
        direction = affine[:3, :3] / spacing
    return np.asanyarray(image.dataobj).T[None], {
        "size": image.shape[::-1],
        "spacing": spacing[: len(image.shape)][::-1],
        "origin": affine[:3, 3],
        "direction": direction,
    }


def _read_like_nnunet(file: Path, dataset_json: dict, is_label: bool) -> tuple[np.ndarray, dict]:
    reader = determine_reader_writer_from_dataset_json(dataset_json, str(file), verbose=False)()
    array, properties = reader.read_seg(str(file)) if is_label else reader.read_images([str(file)])
    geometry = {"size": array.shape[1:], "spacing": properties.get("spacing")}
    for name in ("origin", "direction"):
        geometry[name] = properties.get("sitk_stuff", {}).get(name)
    return array, {name: value for name, value in geometry.items() if value is not None}


def same_geometry(a, b) -> bool:
    """Whether two sizes, spacings, origins or directions are equal but for rounding."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=_TOLERANCE)


def shown_geometry(value) -> str:
    """For an error message: `96×80×64`, or numbers rounded to four digits."""
    return (
        "×".join(str(v) for v in value)
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value)
        else str(np.round(np.asarray(value, dtype=float), 4).tolist())
    )
