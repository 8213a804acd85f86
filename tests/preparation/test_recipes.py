"""Every recipe on a folder made to the published layout of its dataset."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.prepare import main
from nnunet_xmodal.datasets.grouped_split import subjects_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.preparation.recipe import recipe_names

NAME = "Dataset520_Published"
EYE = np.eye(3)
DASHED = ("-t1n.nii.gz", "-t1c.nii.gz", "-t2w.nii.gz", "-t2f.nii.gz", "-seg.nii.gz")
ORGANS = {63: (-9, -7, 0), 126: (8, -6, 0), 189: (-6, 9, 0), 252: (9, 8, 0)}  # values of CHAOS → centre in mm


@pytest.fixture
def prepared(tmp_path, raw):
    def prepare(recipe, *flags, folder="published"):
        main(["-i", str(tmp_path / folder), "-o", NAME, "--recipe", recipe, "-np", "1", *flags])
        return json.loads((raw / NAME / "dataset.json").read_text()), lambda file: sitk.ReadImage(
            str(raw / NAME / file)
        )

    return prepare


def voxels(image):
    return sitk.GetArrayFromImage(image)


def values(image):
    return set(np.unique(voxels(image)).tolist())


def graded(scans, grid, grades):
    """Balls at the landmarks, with these values."""
    balls = [scans.ball_of(grid, 4, point, value) for point, value in zip(scans.landmarks, grades)]
    return sum(balls[1:], balls[0])


def test_all_recipes_have_a_test():
    here = open(__file__, encoding="utf-8").read()
    assert all(f'("{name}"' in here for name in recipe_names())


def test_picai(scans, tmp_path, prepared):
    images, labels = tmp_path / "published" / "picai_public_images_fold0", tmp_path / "published" / "picai_labels"
    labels = labels / "csPCa_lesion_delineations" / "human_expert" / "resampled"
    t2w = scans.grid_around((30, 30, 12), (1, 1, 3), scans.oblique)
    dwi = scans.grid_around((16, 16, 12), (2, 2, 3), scans.oblique)
    for patient, study in (("10000", "1000000"), ("10005", "1000005"), ("10005", "1000006")):
        for name, grid in (("t2w", t2w), ("adc", dwi), ("hbv", dwi), ("cor", t2w), ("sag", t2w)):
            scans.write(scans.scan_of(grid), images / patient / f"{patient}_{study}_{name}.mha")
    scans.write(graded(scans, t2w, (1, 2, 3, 5)), labels / "10000_1000000.nii.gz")
    scans.write(t2w > 0, labels / "10005_1000005.nii.gz")
    dataset_json, read = prepared("picai")
    assert dataset_json["channel_names"] == {"0": "T2W", "1": "ADC", "2": "HBV"}
    assert dataset_json["xmodal"] == {"streams": [["T2W"], ["ADC", "HBV"]]} and dataset_json["numTraining"] == 2
    label = read("labelsTr/10000_1000000.nii.gz")
    expected = [grade for grade in (1, 2, 3, 5) if grade >= 2]
    assert values(label) == {0, 1}
    assert int(voxels(sitk.ConnectedComponent(label)).max()) == len(expected)
    assert values(read("labelsTr/10005_1000005.nii.gz")) == {0}
    assert read("imagesTs/10005_1000006_0001.nii.gz").GetSize() == t2w.GetSize()


def test_prostatex(scans, tmp_path, prepared):
    study = tmp_path / "published" / "ProstateX-0000" / "07-07-2011-NA-MR prostaat-05711"
    t2w = sitk.Cast(scans.scan_of(scans.grid_around((30, 30, 9), (1, 1, 3), EYE)), sitk.sitkInt16)
    adc = sitk.Cast(scans.scan_of(scans.grid_around((16, 16, 9), (2, 2, 3), EYE)), sitk.sitkInt16)
    for number, (name, image) in enumerate(
        {
            "t2localizer-00001": t2w,
            "t2tsesag-00002": t2w,
            "t2tsetra-00702": t2w,
            "ep2ddifftraDYNDISTADC-48780": adc,
            "ep2ddifftraDYNDIST-28561": adc,
            "ep2ddifftraDYNDISTCALCBVAL-37493": adc,
        }.items()
    ):
        scans.write_dicom(
            image, study / f"{number + 1}.000000-{name}", patient="ProstateX-0000", series=f"1.2.{number}"
        )
    dataset_json, read = prepared("prostatex")
    assert np.array_equal(voxels(read("imagesTs/ProstateX-0000_0000.nii.gz")), voxels(t2w))
    assert read("imagesTs/ProstateX-0000_0002.nii.gz").GetSize() == t2w.GetSize()
    assert list(dataset_json["channel_names"].values()) == ["T2W", "ADC", "HBV"]


@pytest.mark.parametrize(
    "recipe, case, names, enhancing",
    [
        ("brats", "BraTS20_Training_001", ("_t1.nii", "_t1ce.nii", "_t2.nii", "_flair.nii", "_seg.nii"), 4),
        ("brats", "BraTS2021_00000", ("_t1.nii.gz", "_t1ce.nii.gz", "_t2.nii.gz", "_flair.nii.gz", "_seg.nii.gz"), 4),
        ("brats2023", "BraTS-GLI-00000-000", DASHED, 3),
    ],
)
def test_brats(scans, tmp_path, prepared, recipe, case, names, enhancing):
    """Old values and new ones give the same labels, in which every region holds the next."""
    folder = tmp_path / "published" / case
    grid = scans.grid_around((24, 24, 20), (1, 1, 1), np.diag([-1.0, -1.0, 1.0]))
    for height, name in enumerate(names[:4], 1):
        scans.write(scans.scan_of(grid, height=100.0 * height), folder / f"{case}{name}")
    label = graded(scans, grid, (1, 2, enhancing, 0))
    scans.write(label, folder / f"{case}{names[4]}")
    dataset_json, read = prepared(recipe)
    assert dataset_json["channel_names"] == {"0": "T1", "1": "T1c", "2": "T2", "3": "FLAIR"}
    assert dataset_json["labels"] == {
        "background": 0,
        "whole_tumour": [1, 2, 3],
        "tumour_core": [2, 3],
        "enhancing": [3],
    }
    assert dataset_json["regions_class_order"] == [1, 2, 3]
    assert dataset_json["xmodal"] == {"streams": [["T1", "T1c"], ["T2", "FLAIR"]]}
    new, old = voxels(read(f"labelsTr/{case}.nii.gz")), voxels(label)
    for old_value, new_value in ((0, 0), (1, 2), (2, 1), (enhancing, 3)):
        assert np.array_equal(new == new_value, old == old_value)
    tops = [sitk.MinimumMaximum(read(f"imagesTr/{case}_000{n}.nii.gz"))[1] for n in range(4)]
    assert tops == sorted(tops)


def test_a_resection_cavity_is_no_tumour(scans, tmp_path, prepared, raw):
    """The files of BraTS 2024 have the names of 2023, and a value more."""
    folder = tmp_path / "published" / "BraTS-GLI-02060-100"
    grid = scans.grid_around((24, 24, 20), (1, 1, 1), EYE)
    for name in DASHED[:4]:
        scans.write(scans.scan_of(grid), folder / f"{folder.name}{name}")
    scans.write(graded(scans, grid, (1, 2, 3, 4)), folder / f"{folder.name}{DASHED[4]}")
    with pytest.raises(SystemExit):
        prepared("brats2023")
    assert "holds the label 4, which none of" in (raw / NAME / "prepare.csv").read_text()


def test_chaos(scans, tmp_path, prepared):
    """Numbered from the head down, a series number for every file, as in the published set; T2 on a grid of its own."""
    case = tmp_path / "published" / "MR" / "1"
    t1 = scans.grid_around((32, 30, 6), (1.2, 1.2, 5.0), EYE)
    t2 = scans.grid_around((26, 26, 9), (1.5, 1.5, 4.0), EYE)
    image = sitk.Cast(scans.scan_of(t1), sitk.sitkInt16)
    inside, outside = case / "T1DUAL" / "DICOM_anon" / "InPhase", case / "T1DUAL" / "DICOM_anon" / "OutPhase"
    scans.write_dicom(image, inside, series="", names=lambda index: f"IMG-0004-{2 * (6 - index):05d}")
    scans.write_dicom(image, outside, series="", names=lambda index: f"IMG-0004-{2 * (6 - index) - 1:05d}")
    t2_names = {"series": "", "names": lambda index: f"IMG-0002-{9 - index:05d}"}
    scans.write_dicom(sitk.Cast(scans.scan_of(t2), sitk.sitkInt16), case / "T2SPIR" / "DICOM_anon", **t2_names)
    balls = [scans.ball_of(t1, 5, centre, value) for value, centre in ORGANS.items()]
    label = sum(balls[1:], balls[0])
    (case / "T1DUAL" / "Ground").mkdir()
    for index in range(6):
        file = case / "T1DUAL" / "Ground" / f"IMG-0004-{2 * (6 - index):05d}.png"
        sitk.WriteImage(label[:, :, index], str(file))
    dataset_json, read = prepared("chaos", folder="published/MR")
    assert dataset_json["xmodal"] == {"streams": [["T1-in", "T1-out"], ["T2-SPIR"]]}
    found = read("labelsTr/1.nii.gz")
    for new, value in enumerate((63, 126, 189, 252), 1):
        assert np.array_equal(voxels(found) == new, voxels(label) == value)
    first, second, third = (read(f"imagesTr/1_000{number}.nii.gz") for number in range(3))
    assert np.array_equal(voxels(first), voxels(image)) and np.array_equal(voxels(first), voxels(second))
    assert third.GetSize() == first.GetSize()
    assert np.corrcoef(voxels(first).ravel(), voxels(third).ravel())[0, 1] > 0.9


def test_muregpro(scans, tmp_path, prepared):
    """Coordinates of both images have nothing in common; the labels' centres do."""
    folder = tmp_path / "published" / "train"
    shift = np.array([200.0, -90.0, 40.0])
    mr = scans.grid_around((40, 40, 36), (0.9, 0.9, 0.9), EYE)
    us = scans.grid_around((36, 40, 44), (0.9, 0.9, 0.8), EYE, shift)
    scans.write(scans.scan_of(mr), folder / "mr_images" / "case000065.nii.gz")
    scans.write(scans.scan_of(us, lambda points: points - shift), folder / "us_images" / "case000065.nii.gz")
    for name, grid, offset in (("mr", mr, 0), ("us", us, shift)):
        labels = [scans.ball_of(grid, 12, offset + np.zeros(3))]
        labels += [scans.ball_of(grid, 3, offset + landmark) for landmark in scans.landmarks] + [grid > 1e9]
        labels = [sitk.Cast(label, sitk.sitkUInt8) for label in labels]
        scans.write(sitk.JoinSeries(labels), folder / f"{name}_labels" / "case000065.nii.gz")
    dataset_json, read = prepared("muregpro", folder="published/train")
    assert list(dataset_json["channel_names"].values()) == ["MR", "TRUS"]
    fixed, moving = (voxels(read(f"imagesTr/case000065_000{number}.nii.gz")) for number in (0, 1))
    assert np.corrcoef(fixed.ravel(), moving.ravel())[0, 1] > 0.98
    assert np.array_equal(voxels(read("labelsTr/case000065.nii.gz")), voxels(scans.ball_of(mr, 12)))


def test_qsm_cosmos(scans, tmp_path, prepared):
    folder = tmp_path / "published" / "head1"
    grid = scans.grid_around((20, 22, 18), (1.06, 1.06, 1.06), scans.oblique)
    names = {"phs_tissue": 0.1, "phs_wrap": 3.0, "magn": 100.0, "chi_cosmos": 0.2, "chi_33": 0.3}
    for name, height in names.items():
        scans.write(scans.scan_of(grid, height=height) - 0.05, folder / f"{name}.nii.gz")
    scans.write(scans.ball_of(grid, 7), folder / "msk.nii.gz")
    dataset_json, read = prepared("qsm_cosmos")
    assert dataset_json["channel_names"] == {"0": "field", "1": "susceptibility"}
    assert dataset_json["labels"] == {"background": 0, "brain": 1}
    for number, name in enumerate(("phs_tissue", "chi_cosmos")):
        original = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
        assert np.array_equal(voxels(read(f"imagesTr/head1_000{number}.nii.gz")), voxels(original))


def test_sepia(scans, tmp_path, prepared):
    folder = tmp_path / "published" / "sub-001" / "SEPIA"
    grid = scans.grid_around((20, 22, 18), (1, 1, 1), scans.oblique)
    names = {"fieldmap": 30.0, "localfield": 5.0, "weights": 1.0, "Chimap": 0.2}
    for name, height in names.items():
        scans.write(scans.scan_of(grid, height=height) - 0.05, folder / f"Sepia_{name}.nii.gz")
    for name, radius in {"brain": 8, "localfield": 8, "QSM": 7}.items():
        scans.write(scans.ball_of(grid, radius), folder / f"Sepia_mask_{name}.nii.gz")
    dataset_json, read = prepared("sepia")
    assert dataset_json["channel_names"] == {"0": "field", "1": "susceptibility"}
    for number, name in enumerate(("localfield", "Chimap")):
        original = sitk.ReadImage(str(folder / f"Sepia_{name}.nii.gz"))
        assert np.array_equal(voxels(read(f"imagesTr/sub-001_000{number}.nii.gz")), voxels(original))
    assert voxels(read("labelsTr/sub-001.nii.gz")).sum() == voxels(scans.ball_of(grid, 7)).sum()


@pytest.fixture
def bids(scans, tmp_path):
    """A dataset of three cases, one of which has no mask; channels differ in their entities, masks in theirs."""
    folder, grid = tmp_path / "published", scans.grid_around((20, 20, 9), (1, 1, 3), scans.oblique)
    masks = {"sub-01_ses-1": "_space-orig_label-lesion", "sub-02": "_acq-3d_label-lesion_desc-manual"}
    for subject, session in (("sub-01", "ses-1"), ("sub-01", "ses-2"), ("sub-02", "")):
        case, place = "_".join(filter(None, (subject, session))), "/".join(filter(None, (subject, session)))
        for suffix in ("T1w", "acq-3d_FLAIR"):
            scans.write(scans.scan_of(grid), folder / place / "anat" / f"{case}_{suffix}.nii.gz")
        scans.write(scans.scan_of(grid), folder / place / "func" / f"{case}_task-rest_bold.nii.gz")
        if case in masks:
            mask = folder / "derivatives" / "raters" / place / "anat" / f"{case}{masks[case]}_mask.nii.gz"
            scans.write(scans.ball_of(grid), mask)
    (folder / "participants.tsv").write_text("participant_id\tage\nsub-01\t44\nsub-02\tn/a\n")
    (folder / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.9.0"}')
    return folder


def test_bids(bids, prepared, capsys):
    dataset_json, read = prepared("bids", "--channels", "T1w", "FLAIR")
    assert dataset_json["channel_names"] == {"0": "T1w", "1": "FLAIR"} and dataset_json["numTraining"] == 2
    assert values(read("labelsTr/sub-01_ses-1.nii.gz")) == values(read("labelsTr/sub-02.nii.gz")) == {0, 1}
    assert read("imagesTs/sub-01_ses-2_0001.nii.gz").GetSize() == (20, 20, 9)
    assert "imagesTs 1, and 1 of the 3 found have no label." in capsys.readouterr().out
    cases = ["sub-01_ses-1", "sub-01_ses-2", "sub-02"]
    assert [*subjects_of(cases, str(bids / "participants.tsv")).values()] == ["sub-01", "sub-01", "sub-02"]
    with pytest.raises(XModalError, match="no participant sub-03, which the case sub-03_ses-1 is of"):
        subjects_of(["sub-03_ses-1"], str(bids / "participants.tsv"))
    with pytest.raises(SystemExit):
        prepared("bids")


def test_names_of_the_dataset_are_those_of_bids(bids):
    validator = pytest.importorskip("bids_validator", reason="bids_validator is not installed: pip install .[test]")
    files = [file.relative_to(bids).as_posix() for file in bids.rglob("*.nii.gz")]
    names = [f"/{file}" for file in files if not file.startswith("derivatives")]
    assert len(names) == 9 and all(map(validator.BIDSValidator().is_bids, names))
