"""A volume or transform has its name only when it can be read back: ITK itself is silent on a full disk."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.natural_image_reader_writer import NaturalImage2DIO
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO, NibabelIOWithReorient
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO, SimpleITKIOWithReorient
from nnunetv2.imageio.tif_reader_writer import Tiff3DIO

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.volume_writer import write_label_map, write_volume

ENDINGS = (".nii", ".nii.gz", ".mha", ".nrrd", ".mhd", ".tif")
SIDES = (5, 17, 23)
RIGID = sitk.Euler3DTransform((1.3, 2, 3), 0.1, 0.2, np.pi / 7, (4, 5, 1 / 3))


def noise(kind=np.float32, sides=SIDES):
    return np.random.default_rng(0).normal(100, 30, sides).astype(kind)


def image_of(array):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([1.0, 1.5, 2.5][: image.GetDimension()])
    image.SetOrigin([7.0, -3.0, 100.0][: image.GetDimension()])
    return image


def content(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_the_image(tmp_path, ending, compress):
    write_volume(image_of(noise()), tmp_path / f"a{ending}", compress)
    read = sitk.ReadImage(str(tmp_path / f"a{ending}"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), noise())
    assert ending == ".tif" or read.GetOrigin() == (7.0, -3.0, 100.0)
    assert is_complete(tmp_path / f"a{ending}")
    assert {file.suffix.lower() for file in tmp_path.iterdir()} <= {*os.path.splitext(ending.lower()), ".raw", ".zraw"}


@pytest.mark.parametrize("array", [noise(np.uint16), noise(np.int16, (17, 23)), np.full(SIDES, np.nan, np.float32)])
def test_of_any_type_and_dimension(tmp_path, array):
    """ITK would read NaN as zero."""
    write_volume(image_of(array), tmp_path / "a.nii.gz")
    assert is_complete(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("left", [0, 400, 3000])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(tmp_path, full_disk, ending, left):
    file = tmp_path / f"a{ending}"
    write_volume(image_of(noise(np.uint8)), file)
    before = content(tmp_path)
    for name in (file, tmp_path / f"new{ending}"):
        with full_disk(left), pytest.raises(XModalError, match="because the disk is full") as error:
            write_volume(image_of(noise()), name, compress=True)
        assert str(error.value).startswith(str(name))
    assert content(tmp_path) == before


@pytest.mark.parametrize("fault", ["nothing", "empty", "half", "other voxels"])
def test_what_does_not_read_back_is_not_kept(tmp_path, monkeypatch, fault):
    """Whatever the reason is: the disk has room again when it is asked."""
    write_volume(image_of(noise(np.uint8)), tmp_path / "a.nii.gz")
    before, write = content(tmp_path), sitk.WriteImage

    def writes_badly(image, name, compress):
        if fault == "nothing":
            return
        write(image * 2 if fault == "other voxels" else image, name, compress)
        if fault in ("empty", "half"):
            os.truncate(name, 0 if fault == "empty" else os.path.getsize(name) // 2)

    monkeypatch.setattr(sitk, "WriteImage", writes_badly)
    with pytest.raises(XModalError, match=r"a\.nii\.gz could not be written \(what was read back"):
        write_volume(image_of(noise()), tmp_path / "a.nii.gz")
    assert content(tmp_path) == before


def test_a_disk_that_tells_only_when_it_is_flushed(tmp_path, monkeypatch):
    """As network file systems do."""

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(XModalError, match="because the disk is full"):
        write_volume(image_of(noise()), tmp_path / "a.nii.gz")
    with pytest.raises(XModalError, match="because the disk is full"):
        write_transform(RIGID, tmp_path / "a.tfm")
    assert not content(tmp_path)


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(XModalError, match=r"a\.nii\.gz could not be written \(No such file or directory\)"):
        write_volume(image_of(noise()), tmp_path / "nowhere" / "a.nii.gz")


def test_faults_that_are_not_the_disks_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="a.unknown"):
        write_volume(image_of(noise()), tmp_path / "a.unknown")


KILLED = """
import os, signal, sys
import numpy as np, SimpleITK as sitk
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.volume_writer import write_volume

os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
for name in sys.argv[1:]:
    process = os.fork()
    if process == 0:
        if name.endswith(".tfm"):
            write_transform(sitk.Euler3DTransform((9, 9, 9)), name)
        else:
            write_volume(sitk.GetImageFromArray(np.ones((4, 5, 6), np.float32)), name)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_killed_between_writing_and_renaming(tmp_path):
    """The old file is there, and nothing has the name of a new one."""
    write_transform(RIGID, tmp_path / "a.tfm")
    write_volume(image_of(noise()), tmp_path / "a.nii.gz")
    before = content(tmp_path)
    names = [str(tmp_path / name) for name in ("a.tfm", "new.tfm", "a.nii.gz", "new.nii.gz")]
    ended = subprocess.run([sys.executable, "-c", KILLED, *names], capture_output=True, text=True, cwd="/", check=True)
    assert ended.stdout.split() == [str(-signal.SIGKILL)] * 4
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before
    assert all(folder.name.startswith(".tmp_") for folder in tmp_path.iterdir() if folder.is_dir())


WRITERS = [
    (SimpleITKIO, ".nii.gz"),
    (SimpleITKIO, ".mha"),
    (SimpleITKIO, ".nrrd"),
    (SimpleITKIO, ".gipl"),
    (SimpleITKIOWithReorient, ".nii.gz"),
    (NibabelIO, ".nii"),
    (NibabelIOWithReorient, ".nii.gz"),
    (Tiff3DIO, ".tif"),
    (NaturalImage2DIO, ".png"),
    (NaturalImage2DIO, ".bmp"),
    (NaturalImage2DIO, ".tif"),
]


def labels_and_properties(folder, writer, ending):
    """Labels `(z, y, x)`, and what the reader has noted about an image of that size."""
    sides = (1, 23, 17) if writer is NaturalImage2DIO else (5, 17, 23)
    labels = np.random.default_rng(0).integers(0, 4, sides).astype(np.uint8)
    if writer in (NaturalImage2DIO, Tiff3DIO):
        return labels, {"spacing": (1.0, 1.5, 2.5)}
    image = image_of(noise(np.float32))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    file = folder / f"image{ending}"
    sitk.WriteImage(image, str(file))
    voxels, properties = writer().read_images([str(file)])
    file.unlink()
    return np.resize(labels, voxels.shape[1:]), properties


@pytest.mark.parametrize("writer, ending", WRITERS)
def test_label_maps_are_those_of_nnunets_writers(tmp_path, full_disk, writer, ending):
    labels, properties = labels_and_properties(tmp_path, writer, ending)
    file, theirs = tmp_path / f"a{ending}", tmp_path / "theirs"
    theirs.mkdir()
    writer().write_seg(labels, str(theirs / f"a{ending}"), properties)
    write_label_map(labels, file, properties, writer())
    ours = {name.name: name.read_bytes() for name in tmp_path.iterdir() if name.is_file()}
    assert set(ours) == set(content(theirs))
    np.testing.assert_array_equal(writer().read_seg(str(file))[0], writer().read_seg(str(theirs / f"a{ending}"))[0])
    for left in (0, 60):
        with full_disk(left), pytest.raises(XModalError, match="because the disk is full"):
            write_label_map((labels + 1) % 4, file, properties, writer())
    assert {name.name: name.read_bytes() for name in tmp_path.iterdir() if name.is_file()} == ours


def test_labels_that_a_writer_wraps_round_are_not_written(tmp_path):
    """nnU-Net's reorienting writer makes 8 bits of everything."""
    labels, properties = labels_and_properties(tmp_path, SimpleITKIOWithReorient, ".nii.gz")
    with pytest.raises(XModalError, match="is not what was written"):
        write_label_map(labels.astype(np.uint16) + 300, tmp_path / "a.nii.gz", properties, SimpleITKIOWithReorient())
    assert not content(tmp_path)


TRANSFORMS = {
    "rigid": RIGID,
    "composite": sitk.CompositeTransform([RIGID, sitk.AffineTransform(3)]),
    "generic": sitk.Transform(RIGID),
    "planar": sitk.Euler2DTransform((1, 2), 0.3, (1 / 3, 4)),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(tmp_path, full_disk, name):
    file = tmp_path / "a.tfm"
    write_transform(TRANSFORMS[name], file)
    assert sitk.ReadTransform(str(file)).GetParameters() == TRANSFORMS[name].GetParameters()
    assert is_complete(file)
    before = content(tmp_path)
    for left in (0, 30, len(before["a.tfm"]) - 1):
        with full_disk(left), pytest.raises(XModalError, match=r"a\.tfm could not be written because the disk is full"):
            write_transform(TRANSFORMS[name], file)
    assert content(tmp_path) == before
