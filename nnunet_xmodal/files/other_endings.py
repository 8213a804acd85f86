"""Images that lie beside those of a dataset under another ending, which nnU-Net passes over without a word."""

from functools import cache
from pathlib import Path

from nnunet_xmodal.files.remarks import remark

_IMAGES = (
    *(".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".gipl.gz", ".mgz", ".mgh", ".vtk", ".mnc"),
    *(".dcm", ".ima", ".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg", ".npy", ".npz", ".h5", ".zarr"),
)
"""Endings of images; others, of headers' voxels, tables and notes, are nobody's cases."""

_WRITTEN_BESIDE = {".png": (".npz",), ".nii.gz": (".npz",), ".nrrd": (".npz",), ".mha": (".npz",)}
"""By nnU-Net, with --save_probabilities."""


def images_of_other_endings(folder: Path, ending: str) -> list[Path]:
    """Find files of a folder that are images but do not end as those of the dataset, e.g. in capitals; by name."""
    passed_over = _WRITTEN_BESIDE.get(ending.lower(), ())
    return [
        file
        for file in sorted(folder.iterdir())
        if file.name.lower().endswith(_IMAGES)
        and not file.name.endswith(ending)
        and not file.name.startswith(".")
        and not file.name.lower().endswith(passed_over)
    ]


def sentence_about(files: list[Path], ending: str) -> str:
    """Say which files are not read, and what to do; there is at least one."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    are, them = ("are", "them") if len(files) > 1 else ("is", "it")
    only_capitals = all(file.name.lower().endswith(ending.lower()) for file in files)
    way_out = f"rename {them}" if only_capitals else f"convert {them}, or move {them} away"
    return f"{files[0]}{more} {are} not read, because nnU-Net takes files that end in {ending} alone: {way_out}."


@cache  # several checks look into a folder
def tell_of_other_endings(folder: Path, ending: str) -> None:
    """Remark on images that are not read, once for each folder; a folder that does not exist has none."""
    others = images_of_other_endings(folder, ending) if folder.is_dir() else []
    if others:
        remark(sentence_about(others, ending))
