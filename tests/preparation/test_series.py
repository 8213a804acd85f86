"""DICOM folders: every voxel where the scanner saw it, and a sentence for what is no complete series."""

import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.resampling import onto_grid, same_grid
from nnunet_xmodal.preparation.case import _label_notes
from nnunet_xmodal.preparation.case_inputs import read_label, read_scan
from nnunet_xmodal.preparation.png_labels import is_png_folder, read_png_labels
from nnunet_xmodal.preparation.settings import PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase


@pytest.fixture
def volume(scans):
    """Oblique, anisotropic, of whole numbers, no two alike."""
    return filled(scans.grid_around((16, 14, 7), (2.0, 2.5, 4.0), scans.oblique, (30, -12, 80)))


def filled(grid):
    width, height, depth = grid.GetSize()
    numbers = np.random.default_rng(0).permutation(depth * height * width).astype(np.int16)
    image = sitk.GetImageFromArray(numbers.reshape(depth, height, width))
    image.CopyInformation(grid)
    return image


def voxels(image):
    return sitk.GetArrayFromImage(image)


def test_an_oblique_series_lies_where_it_was_scanned(scans, volume, tmp_path):
    """Names run against the positions: order is by place."""
    folder = scans.write_dicom(volume, tmp_path / "t2", names=lambda index: f"IMG-{9 - index}")
    scan = read_scan(folder)
    assert same_grid(scan.image, volume)
    assert np.array_equal(voxels(scan.image), voxels(volume))
    assert scan.patient == "Anna"
    assert [file.stem for file in scan.slices] == [f"IMG-{9 - index}" for index in range(7)]


def test_a_left_handed_stack_keeps_every_voxel_in_its_place(scans, tmp_path):
    """DICOM knows no left-handed volumes: slices come back from the other end, at the same points."""
    flipped = np.diag([1.0, 1.0, -1.0])
    volume = filled(scans.grid_around((9, 8, 5), (2, 2, 3), flipped))
    image = read_scan(scans.write_dicom(volume, tmp_path / "t2")).image
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) > 0
    again = sitk.Resample(image, volume, sitk.Transform(), sitk.sitkNearestNeighbor)
    assert np.array_equal(voxels(again), voxels(volume))


def test_every_slice_has_its_own_slope(scans, tmp_path):
    grid = scans.grid_around((8, 6, 4), (2, 2, 3), np.eye(3))
    image = sitk.GetImageFromArray(np.arange(4 * 6 * 8).reshape(4, 6, 8) * 0.5)
    image.CopyInformation(grid)
    folder = scans.write_dicom(image, tmp_path / "adc", slopes=(0.5, 0.25, 0.5, 0.125))
    assert np.array_equal(voxels(read_scan(folder).image), voxels(image))


def test_a_series_number_for_every_file_is_still_one_volume(scans, volume, tmp_path):
    scan = read_scan(scans.write_dicom(volume, tmp_path / "t2", series=""))
    assert np.array_equal(voxels(scan.image), voxels(volume))


def faults(scans, volume, folder):
    """What is wrong with a folder → how it becomes so."""
    first = scans.write_dicom(volume, folder / "first")
    other = scans.write_dicom(volume, folder / "other", series="1.2.9", names=lambda index: f"B{index}")
    stranger = scans.write_dicom(volume, folder / "stranger", patient="Bert", names=lambda index: f"C{index}")
    again = scans.write_dicom(volume, folder / "again", names=lambda index: f"D{index}")
    turned = sitk.Image(volume)
    turned.SetDirection(np.eye(3).ravel().tolist())
    turned = scans.write_dicom(turned[:, :, :1], folder / "turned", names=lambda index: f"E{index}")

    def with_files_of(source):
        return lambda here: [shutil.copy(file, here) for file in source.iterdir()]

    def damaged(here):
        file = here / "IMG-0003.dcm"
        file.write_bytes(file.read_bytes()[:140])

    return first, {
        "holds 2 series": with_files_of(other),
        "holds images of 2 patients, Anna, Bert": with_files_of(stranger),
        "several images of one place: it is 4D": with_files_of(again),
        "are not parallel": with_files_of(turned),
        "a slice is missing": lambda here: (here / "IMG-0003.dcm").unlink(),
        "cannot be read": damaged,
        "holds one DICOM slice": lambda here: [file.unlink() for file in sorted(here.iterdir())[1:]],
        "holds no DICOM": lambda here: [file.unlink() for file in here.iterdir()],
    }


def test_what_is_no_complete_series_is_a_sentence(scans, volume, tmp_path):
    first, ways = faults(scans, volume, tmp_path)
    for number, (sentence, spoil) in enumerate(ways.items()):
        folder = shutil.copytree(first, tmp_path / f"case{number}")
        spoil(folder)
        with pytest.raises(XModalError, match=sentence) as caught:
            read_scan(folder)
        assert str(caught.value).count(str(tmp_path)) >= 1


def test_a_tilted_gantry_is_refused(scans, volume, tmp_path):
    folder = tmp_path / "ct"
    for index in range(4):
        part = volume[:, :, index : index + 1]
        part.SetOrigin((np.array(part.GetOrigin()) + [0, 2.0 * index, 0]).tolist())
        scans.write_dicom(part, folder, names=lambda _, index=index: f"IMG{index}")
    with pytest.raises(XModalError, match="tilted gantry"):
        read_scan(folder)


@pytest.mark.parametrize(
    "step, sentence",
    [
        ((0, 0.4, 0), "shifted against each other by 15.6 mm in all, as with a tilted gantry"),  # under 6°
        ((0.02, 0, 0), None),  # what directions of two decimals leave
    ],
)
def test_what_is_small_between_two_slices_adds_up(scans, tmp_path, step, sentence):
    folder = tmp_path / "ct"
    volume = filled(scans.grid_around((6, 5, 40), (2.0, 2.0, 5.0), np.eye(3)))
    for index in range(40):
        part = volume[:, :, index : index + 1]
        part.SetOrigin((np.array(part.GetOrigin()) + index * np.array(step)).tolist())
        scans.write_dicom(part, folder, names=lambda _, index=index: f"IMG{index:02d}")
    if sentence is None:
        assert read_scan(folder).image.GetSize() == (6, 5, 40)
    else:
        with pytest.raises(XModalError, match=sentence):
            read_scan(folder)


def test_distances_that_drift_are_uneven(scans, tmp_path):
    """Thirty slices 3 mm apart, then thirty 3.28 mm apart: none differs by a tenth, and one is 4 mm off."""
    folder = tmp_path / "ct"
    volume = filled(scans.grid_around((4, 4, 60), (2.0, 2.0, 3.0), np.eye(3)))
    for index in range(60):
        part = volume[:, :, index : index + 1]
        part.SetOrigin((np.array(part.GetOrigin()) + [0, 0, 0.28 * max(0, index - 30)]).tolist())
        scans.write_dicom(part, folder, names=lambda _, index=index: f"IMG{index:02d}")
    with pytest.raises(XModalError, match=r"lie unevenly: .* 4\.\d* mm from its place"):
        read_scan(folder)


@pytest.mark.parametrize("name, left", [("IM0009", 0), ("IM0009", 60), ("1.2.840.109", 100)])
def test_a_slice_that_is_cut_off_is_not_passed_over(scans, volume, tmp_path, name, left):
    stem = name[:-1]
    folder = scans.write_dicom(volume, tmp_path / "t2", names=lambda index: f"{stem}{index}")
    for file in list(folder.iterdir()):
        file.rename(folder / file.name.removesuffix(".dcm"))
    (folder / name).write_bytes((folder / f"{stem}3").read_bytes()[:left])
    (folder / "README").write_text("Slices of Anna")
    (folder / "notes1.txt").write_text("")
    with pytest.raises(XModalError, match=f"{name} cannot be read as DICOM"):
        read_scan(folder)
    (folder / name).unlink()
    assert read_scan(folder).image.GetSize() == volume.GetSize()


def test_a_label_of_another_patient_is_refused(scans, volume, tmp_path):
    scan = read_scan(scans.write_dicom(volume, tmp_path / "t2"))
    drawn = sitk.Cast(volume > 300, sitk.sitkInt16)
    settings = PreparationSettings(channels=("T2W",), reference="T2W", labels={"background": 0, "lesion": 1})
    for patient in ("Anna", "Bert"):
        case = SourceCase("anna", {}, scans.write_dicom(drawn, tmp_path / patient, patient=patient))
        if patient == "Anna":
            assert np.array_equal(voxels(read_label(case, settings, {"T2W": scan})), voxels(drawn))
        else:
            with pytest.raises(XModalError, match="T2W is of the patient Anna but the label of Bert"):
                read_label(case, settings, {"T2W": scan})


def test_a_value_that_is_lost_on_the_grid_is_told():
    """Of two lesions the small one falls between voxels; the volume of both hardly changes."""
    fine, coarse = (sitk.Image(side, side, side, sitk.sitkUInt8) for side in (40, 10))
    coarse.SetSpacing([4.0] * 3)
    fine[10:30, 10:30, 10:30], fine[35, 35, 35] = 1, 2
    on_grid = onto_grid(fine, coarse, "nearest")
    assert any("nothing of value 2 is left" in note for note in _label_notes(fine, on_grid, on_grid, {}))
    fine[35, 35, 35] = 1
    assert not any("is left" in note for note in _label_notes(fine, on_grid, on_grid, {}))


def png_labels(labels, folder, name):
    folder.mkdir()
    for index, plane in enumerate(labels):
        sitk.WriteImage(sitk.GetImageFromArray(plane), str(folder / f"{name(index)}.png"))
    return folder


@pytest.mark.parametrize("same_names", [True, False])
def test_png_slices_follow_the_names_of_the_dicom_files(scans, volume, tmp_path, same_names):
    """Numbered from the head down: the first name is the last slice."""
    scan = read_scan(scans.write_dicom(volume, tmp_path / "t1", names=lambda index: f"IMG-{20 - index}"))
    labels = np.random.default_rng(0).choice([0, 63, 126], (7, 14, 16)).astype(np.uint8)
    folder = png_labels(labels, tmp_path / "Ground", lambda index: f"{'IMG' if same_names else 'liver'}-{20 - index}")
    assert is_png_folder(folder)
    image = read_png_labels(folder, [scan])
    assert np.array_equal(voxels(image), labels)
    assert same_grid(image, volume)


def test_files_that_macos_puts_beside_others_are_none(scans, volume, tmp_path):
    folder = scans.write_dicom(volume, tmp_path / "t1", names=lambda index: f"IMG-{index}.dcm")
    (folder / "._IMG-0.dcm").write_bytes(b"\0\5\x16\7")
    assert same_grid(read_scan(folder).image, volume)


def test_png_slices_of_16_bits_keep_their_values(scans, volume, tmp_path):
    scan = read_scan(scans.write_dicom(volume, tmp_path / "t1"))
    labels = np.full((7, 14, 16), 257, np.uint16)
    assert (voxels(read_png_labels(png_labels(labels, tmp_path / "Ground", str), [scan])) == 257).all()


def test_png_slices_that_belong_nowhere_are_refused(scans, volume, tmp_path):
    scan = read_scan(scans.write_dicom(volume, tmp_path / "t1"))
    folder = png_labels(np.zeros((3, 14, 16), np.uint8), tmp_path / "few", lambda index: f"x{index}")
    with pytest.raises(XModalError, match="3 PNG labels for 7 DICOM slices"):
        read_png_labels(folder, [scan])
    folder = png_labels(np.zeros((7, 9, 9), np.uint8), tmp_path / "small", lambda index: f"x{index}")
    with pytest.raises(XModalError, match="pixels"):
        read_png_labels(folder, [scan])


def test_files_that_are_no_volume_are_sentences(scans, volume, tmp_path):
    fault = {
        "is 4D (16×14×7×2), 2 volumes": sitk.JoinSeries([volume, volume]),
        "holds 2 numbers per voxel": sitk.Compose(volume, volume),
        "is 2D": volume[:, :, 3],
    }
    for number, (sentence, image) in enumerate(fault.items()):
        file = scans.write(image, tmp_path / f"{number}.nrrd")
        with pytest.raises(XModalError) as caught:
            read_scan(file)
        assert sentence in str(caught.value)
    nifti = scans.write(sitk.Cast(volume, sitk.sitkFloat32) + float("nan"), tmp_path / "nan.nii")
    with pytest.raises(XModalError, match="NaN"):
        read_scan(nifti)
    cut = scans.write(volume, tmp_path / "cut.nii.gz")
    cut.write_bytes(cut.read_bytes()[:300])
    with pytest.raises(XModalError, match="intact file"):
        read_scan(cut)
    words = tmp_path / "words.mha"
    words.write_text("no image")
    with pytest.raises(XModalError, match="intact file"):
        read_scan(words)
