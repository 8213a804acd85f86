"""Images and label maps with their geometry, in every format that nnU-Net reads; damage is noticed."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from numpy.typing import ArrayLike

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.itk_header import check_header, itk_header, last_line
from nnunet_xmodal.files.nifti import is_nifti, nibabel_grid, nifti_header, nifti_image, nifti_voxels
from nnunet_xmodal.files.placement import check_grid

_TOLERANCE = 1e-3
"""Of spacing and origin in mm and of direction cosines; single precision headers differ by less."""


def read_image(file: Path, dataset_json: dict, is_label: bool) -> tuple[np.ndarray, dict]:
    """Read the voxels and the geometry of one file.

    The geometry is what nnU-Net's reader of that dataset sees; the voxels of NIfTI files are nibabel's, see
    `files.nifti`.

    Args:
        dataset_json: names nnU-Net's reader, or leaves it to the file's ending.

    Returns:
        `(C, z, y, x)`, as nnU-Net reads it; files of one slice may lack z. The geometry has `size` (voxels) and
        `spacing` (mm) in the same order, and where the format knows them `origin` (LPS mm) and `direction` (cosines) in
        x, y, z.

    Raises:
        XModalError: if the file cannot be read in full, is not what nnU-Net's reader takes (see `nifti.nifti_voxels`,
            `itk_header.check_header`), or lies on no grid with right angles.
    """
    if not file.is_file():
        raise XModalError(f"{file} does not exist.")
    try:
        reader = nnunet_reader(file, dataset_json)
        if is_nifti(file):
            return _read_nifti(file, reader)
        if issubclass(reader, SimpleITKIO):
            header = itk_header(file)
            check_header(file, header)
            _check_volume(file, header.size, reader)
        return _read_like_nnunet(file, reader, is_label)
    except XModalError:
        raise
    except Exception as error:
        raise XModalError(f"{file} cannot be read ({last_line(error)}): replace it by an intact file.") from error


def nnunet_reader(file: Path, dataset_json: dict) -> type[BaseReaderWriter]:
    """Return the class that nnU-Net reads a dataset with: named by dataset.json, else by the file ending.

    nnU-Net tries several on the first file of a dataset. A volume that its first choice cannot read is a fault here;
    among pictures, `.tif` may be of two kinds.
    """
    volumes = (*SimpleITKIO.supported_file_endings, *NibabelIO.supported_file_endings)
    example = None if file.name.lower().endswith(volumes) else str(file)
    return determine_reader_writer_from_dataset_json(dataset_json, example, verbose=False)


def _read_nifti(file: Path, reader: type[BaseReaderWriter]) -> tuple[np.ndarray, dict]:
    image = nifti_image(file)
    voxels = nifti_voxels(file, image)
    spacing: Sequence[float] | np.ndarray
    origin: Sequence[float] | np.ndarray
    if issubclass(reader, NibabelIO | NibabelIOWithReorient):
        _check_volume(file, image.shape, reader)
        _, origin, direction = nibabel_grid(file, image)
        spacing = np.array(image.header.get_zooms()[:3], float)
        check_grid(file, spacing, origin, direction)
    else:
        header = nifti_header(file, image)
        _check_volume(file, header.size, reader)
        spacing, origin, direction = header.spacing, header.origin, header.direction
    voxels = voxels.reshape(image.shape[: len(spacing)])  # ITK leaves out a last axis of length one
    geometry = {"size": voxels.shape[::-1], "spacing": np.asarray(spacing)[::-1], "origin": origin}
    return voxels.T[None], {**geometry, "direction": direction}


def _check_volume(file: Path, size: Sequence[int], reader: type[BaseReaderWriter]) -> None:
    """Refuse time series, and a fourth axis of length one where nnU-Net could not write a result for it."""
    most_often_two = issubclass(reader, SimpleITKIO) and len(size) == 2
    if len(size) == 3 or most_often_two:
        return
    shown = "×".join(map(str, size))
    if len(size) > 3 and set(size[3:]) == {1}:
        raise XModalError(
            f"{file} is {len(size)}D ({shown}), and nnU-Net's {reader.__name__} takes volumes of three axes: remove "
            "what is beyond them, which has length one."
        )
    if len(size) > 3:
        raise XModalError(
            f"{file} is {len(size)}D ({shown}), {int(np.prod(size[3:]))} volumes in one file: split it, one volume per "
            "channel."
        )
    raise XModalError(f"{file} is {len(size)}D ({shown}), and nnU-Net's {reader.__name__} takes volumes of three axes.")


def _read_like_nnunet(file: Path, reader: type[BaseReaderWriter], is_label: bool) -> tuple[np.ndarray, dict]:
    array, properties = reader().read_seg(str(file)) if is_label else reader().read_images([str(file)])
    geometry = {"size": array.shape[1:], "spacing": properties.get("spacing")}
    for name in ("origin", "direction"):
        geometry[name] = properties.get("sitk_stuff", {}).get(name)
    return array, {name: value for name, value in geometry.items() if value is not None}


def same_geometry(a: ArrayLike, b: ArrayLike) -> bool:
    """Return whether two sizes, spacings, origins or directions are equal but for rounding."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-5, atol=_TOLERANCE)


def shown_geometry(value: ArrayLike) -> str:
    """Return a geometry for an error message: `96×80×64`, or numbers rounded to four digits."""
    return (
        "×".join(str(v) for v in value)
        if isinstance(value, tuple) and all(isinstance(v, int) for v in value)
        else str(np.round(np.asarray(value, dtype=float), 4).tolist())
    )
