"""Files that are no image of one number per voxel on a grid: one sentence, by whichever command they are read."""

import gzip
import locale
import shutil

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.cases import training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.volumes import check_not_constant, read_volume

SHEARED = np.array([[-1, 0.1, 0, 0], [0, -1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])
LOST = np.diag([-1.0, -1.0, 0.0, 1.0])
SEVERAL = r"is 4D .*\d volumes|6×5×4×\d voxels, .*no single volume"


def of_sform(voxels, sform):
    image = nibabel.Nifti1Image(voxels, None)
    image.set_sform(sform, 1)
    return image


IMAGES = {
    "RGB": (lambda n: nibabel.Nifti1Image(n.colours("RGB"), n.affine), "holds 3 numbers per voxel"),
    "RGBA": (lambda n: nibabel.Nifti1Image(n.colours("RGBA"), n.affine), "holds 4 numbers per voxel"),
    "vector": (lambda n: nibabel.Nifti1Image(np.zeros((*n.shape, 1, 3), "f4"), n.affine), "holds 3 numbers per voxel"),
    "complex": (lambda n: nibabel.Nifti1Image((n.voxels() * 1j).astype("c8"), n.affine), "holds complex numbers"),
    "time series": (
        lambda n: nibabel.Nifti1Image(np.zeros((*n.shape, 3), "f4"), n.affine),
        r"is 4D .*3 volumes|6×5×4×3 voxels, .*no single volume",
    ),
    "sheared": (lambda n: of_sform(n.voxels(), SHEARED), "are not three at right angles"),
    "spacing 0": (lambda n: of_sform(n.voxels(), LOST), "has the spacing 1×1×0 mm, which has to be positive"),
    "infinite": (lambda n: nibabel.Nifti1Image(n.voxels() * np.float32(np.inf), n.affine), "holds NaN or infinite"),
    "beyond float32": (
        lambda n: nibabel.Nifti1Image(n.voxels().astype(float) * 1e200, n.affine),
        "holds NaN or infinite voxels",
    ),
}


def readers(file, description):
    """Every way in which a command reads a volume."""
    return [
        lambda: check_cases(training_cases(file.parents[1], description), description, progress=False),
        lambda: read_volume_file(file),
        lambda: read_volume(file),
    ]


@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
@pytest.mark.parametrize("kind", IMAGES)
def test_what_is_no_image_is_a_sentence_for_every_reader(raw, nifti, kind, ending):
    folder, description = raw(ending)
    make, sentence = IMAGES[kind]
    file = folder / "imagesTr" / f"b_0001{ending}"
    nibabel.save(make(nifti), file)
    for read in readers(file, description):
        with pytest.raises(XModalError, match=sentence) as caught:
            read()
        assert str(file) in str(caught.value)


@pytest.mark.parametrize("kind", ["RGB", "complex", "time series", "sheared", "spacing 0"])
def test_a_label_of_that_kind_is_one_too(raw, nifti, kind):
    folder, description = raw()
    make, sentence = IMAGES[kind]
    nibabel.save(make(nifti), folder / "labelsTr" / "a.nii.gz")
    with pytest.raises(XModalError, match=sentence):
        check_cases(training_cases(folder, description), description, progress=False)


PIXDIM, SLOPE, SFORM, QFORM_B = 76, 112, 280, 256
HEADERS = {
    "spacing 0 beside a qform": ("qform", PIXDIM + 12, "<f", (0.0,), "has the spacing 1×1×0 mm"),
    "negative spacing": ("qform", PIXDIM + 12, "<f", (-2.0,), "has the spacing 1×1×-2 mm"),
    "spacing NaN": ("qform", PIXDIM + 12, "<f", (np.nan,), "does not say where it lies|has the spacing"),
    "origin NaN": ("sform", SFORM + 12, "<f", (np.nan,), "does not say where it lies"),
    "axis infinite": ("sform", SFORM, "<f", (np.inf,), "does not say where it lies"),
    "quaternion NaN": ("qform", QFORM_B, "<f", (np.nan,), "does not say where it lies"),
    "intercept NaN": ("sform", SLOPE, "<ff", (2.0, np.nan), "cannot be read"),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_of_nonsense_is_a_sentence(raw, nifti, kind):
    folder, description = raw(".nii", overwrite_image_reader_writer="SimpleITKIO")
    form, offset, code, values, sentence = HEADERS[kind]
    file = folder / "imagesTr" / "b_0001.nii"
    forms = {"sform": None, "qform": None, form: nifti.affine}
    nibabel.save(nifti.with_forms(nifti.voxels(), **forms), file)
    nifti.packed(file, offset, code, *values)
    for read in readers(file, description):
        with pytest.raises(XModalError, match=sentence):
            read()


@pytest.mark.parametrize(
    "change",
    [
        lambda n: nibabel.Nifti1Image((n.voxels() * 100).astype("i8"), n.affine, dtype="int64"),
        lambda n: nibabel.Nifti1Image(n.voxels().astype("f8"), n.affine),
        lambda n: nibabel.Nifti1Image(n.voxels(), n.affine, nibabel.Nifti1Header(endianness=">")),
        lambda n: nibabel.Nifti1Image(n.voxels()[..., None], n.affine),
    ],
    ids=["int64", "float64", "big endian", "a fourth axis of one"],
)
def test_other_ways_to_write_an_image_are_as_good(raw, nifti, change):
    folder, description = raw()
    file = folder / "imagesTr" / "b_0001.nii.gz"
    nibabel.save(change(nifti), file)
    for read in readers(file, description):
        read()


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, -2.0])
def test_a_scaling_means_the_same_to_both_programs(raw, nifti, slope):
    folder, description = raw(".nii", overwrite_image_reader_writer="SimpleITKIO")
    file = folder / "imagesTr" / "b_0001.nii"
    nifti.packed(file, SLOPE, "<ff", slope, 0.0)
    for read in readers(file, description):
        read()
    ours = np.asanyarray(nibabel.load(file).dataobj).T
    assert np.allclose(sitk.GetArrayFromImage(read_volume_file(file).image), ours)


def test_a_fourth_axis_is_refused_where_nnunet_cannot_write_a_result(raw, nifti):
    """NibabelIO asserts three axes when it reads, SimpleITKIO when it writes what it read as 4D."""
    folder, description = raw(".nii")
    nibabel.save(nibabel.Nifti1Image(nifti.voxels()[..., None], nifti.affine), folder / "imagesTr" / "b_0001.nii")
    with pytest.raises(XModalError, match=r"b_0001.nii is 4D .*NibabelIO takes volumes of three axes: remove"):
        check_cases(training_cases(folder, description), description, progress=False)


def other_formats(voxels):
    """Format → image → sentence."""
    image = sitk.GetImageFromArray(voxels.T)
    return {
        "vector": (sitk.Compose([image] * 3), "holds 3 numbers per voxel"),
        "RGBA": (sitk.Compose([sitk.Cast(image, sitk.sitkUInt8)] * 4), "holds 4 numbers per voxel"),
        "time series": (sitk.JoinSeries([image] * 2), SEVERAL),
        "NaN": (image + float("nan"), "holds NaN or infinite"),
    }


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".NRRD"])
@pytest.mark.parametrize("kind", ["vector", "RGBA", "time series", "NaN"])
def test_other_formats_alike(tmp_path, nifti, kind, ending):
    image, sentence = other_formats(nifti.voxels())[kind]
    description = {"channel_names": {"0": "T2W"}, "labels": {"background": 0, "a": 1}, "file_ending": ending}
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "labelsTr").mkdir()
    file = tmp_path / "imagesTr" / f"a_0000{ending}"
    sitk.WriteImage(image, str(file))
    sitk.WriteImage(sitk.GetImageFromArray(nifti.label().T), str(tmp_path / "labelsTr" / f"a{ending}"))
    for read in readers(file, description):
        with pytest.raises(XModalError, match=sentence):
            read()


def test_numbers_in_the_header_of_metaimage(tmp_path, nifti):
    file = tmp_path / "a_0000.mha"
    for old, new, sentence in (
        (b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 0", "has the spacing 1×1×0 mm"),
        (b"ElementSpacing = 1 1 1", b"ElementSpacing = 1 1 -1", "has the spacing 1×1×-1 mm"),
        (b"Matrix = 1 0 0 0 1 0 0 0 1", b"Matrix = 1 0 0 0.1 1 0 0 0 1", "not three at right angles"),
    ):
        sitk.WriteImage(sitk.GetImageFromArray(nifti.voxels().T), str(file))
        content = file.read_bytes()
        assert old in content
        file.write_bytes(content.replace(old, new))
        for read in readers(file, {})[1:]:
            with pytest.raises(XModalError, match=sentence):
                read()


@pytest.fixture
def same_locale():
    """After a .vtk, ITK leaves the whole process with the locale C, in which files are ASCII."""
    before = locale.setlocale(locale.LC_ALL)
    yield
    locale.setlocale(locale.LC_ALL, before)


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".gipl", ".vtk"])
def test_a_file_that_was_cut_off_is_noticed_in_every_format(tmp_path, nifti, ending, same_locale):
    file = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(nifti.voxels().T), str(file))
    read_volume_file(file)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) - 100])
    encoding = locale.getpreferredencoding(False)
    with pytest.raises(XModalError, match="intact file"):
        read_volume_file(file)
    assert locale.getpreferredencoding(False) == encoding  # ITK's reader of .vtk changes it


def test_data_beside_a_header_that_are_gone_or_cut(tmp_path, nifti):
    file = tmp_path / "a.nhdr"
    sitk.WriteImage(sitk.GetImageFromArray(nifti.voxels().T), str(file))
    read_volume_file(file)
    data = tmp_path / "a.raw"
    data.write_bytes(data.read_bytes()[:50])
    with pytest.raises(XModalError, match="intact file"):
        read_volume_file(file)
    data.unlink()
    with pytest.raises(XModalError, match="intact file"):
        read_volume_file(file)


def spelt(tmp_path, nifti, voxels):
    """The same voxels under endings that a checker might pass over."""
    image = nibabel.Nifti1Image(voxels, nifti.affine)
    nibabel.save(image, tmp_path / "one.nii.gz")
    nibabel.save(image, tmp_path / "two.nii")
    nibabel.save(nibabel.Nifti1Pair(voxels, nifti.affine), tmp_path / "pair.img")
    nibabel.save(nibabel.Nifti1Pair(voxels, nifti.affine), tmp_path / "zip.img.gz")
    shutil.copy(tmp_path / "one.nii.gz", tmp_path / "ONE.NII.GZ")
    shutil.copy(tmp_path / "two.nii", tmp_path / "TWO.NII")
    for ending in ("hdr", "img"):
        shutil.copy(tmp_path / f"pair.{ending}", tmp_path / f"PAIR.{ending.upper()}")
    names = ("one.nii.gz", "two.nii", "ONE.NII.GZ", "TWO.NII", "pair.hdr", "pair.img", "PAIR.HDR", "zip.img.gz")
    return [tmp_path / name for name in names]


def test_nan_is_noticed_under_every_spelling(tmp_path, nifti):
    for file in spelt(tmp_path, nifti, nifti.voxels()):
        assert np.allclose(sitk.GetArrayFromImage(read_volume_file(file).image).T, nifti.voxels()), file.name
    voxels = nifti.voxels()
    voxels[1] = np.nan
    for file in spelt(tmp_path, nifti, voxels):
        with pytest.raises(XModalError, match=f"{file.name} holds NaN"):
            read_volume_file(file)


def test_a_cut_file_is_noticed_under_every_spelling(tmp_path, nifti):
    files = spelt(tmp_path, nifti, nifti.voxels())
    for file in tmp_path.iterdir():
        content = file.read_bytes()
        if file.suffix.lower() == ".hdr" or ".hdr" in file.name:
            continue
        if file.name.lower().endswith(".gz"):
            file.write_bytes(gzip.compress(gzip.decompress(content)[:-100]))
        else:
            file.write_bytes(content[:-100])
    for file in files:
        with pytest.raises(XModalError, match="intact file"):
            read_volume_file(file)


@pytest.mark.parametrize("ending", [".Nii.gz", ".niI", ".MHA", ".Mhd", ".GIPL"])
def test_a_spelling_that_no_library_reads_is_told_from_a_damaged_file(tmp_path, nifti, ending):
    image = sitk.GetImageFromArray(nifti.voxels().T)
    sitk.WriteImage(image, str(tmp_path / f"t2{ending.lower()}"))
    (tmp_path / f"t2{ending.lower()}").rename(tmp_path / f"t2{ending}")
    with pytest.raises(XModalError, match=rf"t2{ending} ends in {ending}, .*: rename it to end in {ending.lower()}\."):
        read_volume_file(tmp_path / f"t2{ending}")


def test_an_image_that_shows_nothing_is_not_registered(tmp_path, nifti):
    image = sitk.GetImageFromArray(nifti.voxels().T)
    check_not_constant(image, tmp_path / "a_0001.nii.gz")
    with pytest.raises(XModalError, match="a_0001.nii.gz has the value 7 everywhere: there is nothing to register"):
        check_not_constant(image * 0 + 7, tmp_path / "a_0001.nii.gz")
