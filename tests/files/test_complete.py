"""Of every format that is written here: the whole file is complete, and no beginning of it is."""

import gzip
import json
import os
import pickle
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from skimage import io

from nnunet_xmodal.files.complete import is_complete, seems_complete

LABELS = np.random.default_rng(0).integers(0, 4, (5, 17, 23)).astype(np.uint8)


def by_itk(name, compress=True):
    sitk.WriteImage(sitk.GetImageFromArray(LABELS), name, compress)
    return name


def by_nibabel(name):
    nibabel.save(nibabel.Nifti1Image(LABELS.T, np.eye(4)), name)


def text(words):
    def write(name):
        with open(name, "w", encoding="utf-8") as stream:
            stream.write(words)

    return write


def pickled(name):
    with open(name, "wb") as stream:
        pickle.dump({"spacing": [1.0, 2.0], "bbox": np.arange(6)}, stream)


WRITE = {
    "itk.nii.gz": by_itk,
    "itk.nii": by_itk,
    "nibabel.nii.gz": by_nibabel,
    "UPPER.NII.GZ": lambda name: os.rename(by_itk(str(Path(name).with_name("lower.nii.gz"))), name),
    "mgh.mgz": lambda name: nibabel.save(nibabel.MGHImage(LABELS.T, np.eye(4)), name),
    "compressed.mha": by_itk,
    "plain.mha": lambda name: by_itk(name, False),
    "compressed.nrrd": by_itk,
    "plain.nrrd": lambda name: by_itk(name, False),
    "itk.gipl": by_itk,
    "itk.gipl.gz": by_itk,
    "tifffile.tif": lambda name: tifffile.imwrite(name, data=LABELS, compression="zlib"),
    "plain.tif": lambda name: tifffile.imwrite(name, data=LABELS),
    "slice.tif": lambda name: io.imsave(name, LABELS[0], check_contrast=False),
    "slice.png": lambda name: io.imsave(name, LABELS[0], check_contrast=False),
    "slice.bmp": lambda name: io.imsave(name, LABELS[0], check_contrast=False),
    "preprocessed.b2nd": lambda name: blosc2.asarray(LABELS, urlpath=name, mode="w"),
    "probabilities.npz": lambda name: np.savez_compressed(name, probabilities=LABELS / 4),
    "properties.pkl": pickled,
    "rigid.tfm": lambda name: sitk.WriteTransform(sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, 0.3), name),
    "settings.json": text(json.dumps({"a": [1, 2, {"b": None}], "c": "text"}, indent=4)),
    "table.csv": text("case,tx\na,1.25\n"),
    "page.html.gz": lambda name: Path(name).write_bytes(gzip.compress(b"<html></html>")),
}


@pytest.mark.parametrize("name", WRITE)
def test_no_beginning_of_a_file_is_complete(tmp_path, name):
    WRITE[name](str(tmp_path / name))
    content = (tmp_path / name).read_bytes()
    assert is_complete(tmp_path / name)
    if name == "plain.tif":
        content = content[:-16]  # padding that says nothing
    for left in sorted({0, 1, 10, 100, len(content) // 3, len(content) // 2, len(content) - 30, len(content) - 1}):
        if 0 <= left < len(content) and name not in ("table.csv",):
            (tmp_path / f"cut_{name}").write_bytes(content[:left])
            assert not is_complete(tmp_path / f"cut_{name}"), left


@pytest.mark.parametrize("name", ["itk.nii.gz", "itk.nii", "rigid.tfm", "slice.png"])
def test_both_ends_tell_whether_a_file_was_cut_off(tmp_path, name):
    WRITE[name](str(tmp_path / name))
    content = (tmp_path / name).read_bytes()
    assert seems_complete(tmp_path / name)
    for left in range(0, len(content), max(1, len(content) // 50)):
        (tmp_path / name).write_bytes(content[:left])
        assert not seems_complete(tmp_path / name), left


def test_a_table_ends_with_its_line(tmp_path):
    (tmp_path / "a.csv").write_text("case,tx\na,1.2")
    assert not is_complete(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["itk.nii.gz", "probabilities.npz"])
def test_a_wrong_byte_in_the_middle_is_noticed(tmp_path, name):
    """As a disk leaves a file whose last blocks it had no time to write."""
    WRITE[name](str(tmp_path / name))
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 255
    (tmp_path / name).write_bytes(content)
    assert not is_complete(tmp_path / name)


def test_zeros_are_no_image(tmp_path):
    for name in ("a.nii.gz", "a.nii", "a.mha", "a.npz", "a.json", "a.png"):
        (tmp_path / name).write_bytes(bytes(4096))
        assert not is_complete(tmp_path / name)


def test_what_is_not_there_is_not_complete(tmp_path):
    assert not is_complete(tmp_path / "a.nii.gz")
    assert not is_complete(tmp_path)


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Touch:
        def __reduce__(self):
            return open, (str(tmp_path / "touched"), "w")

    (tmp_path / "a.pkl").write_bytes(pickle.dumps(Touch()))
    assert is_complete(tmp_path / "a.pkl")
    assert not (tmp_path / "touched").exists()
