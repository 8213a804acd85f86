"""`--scans`: patients as they come, predicted on the grid of a scan, as prepare and predict one after the other."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from organ_scans import OBLIQUE, image_of, noise, write
from segment_voxels import check_masks

from nnunet_xmodal.commands.predict import main
from nnunet_xmodal.preparation.request import PreparationRequest
from nnunet_xmodal.preparation.run import prepare

CHANNELS = ("T1=t1.*", "T1c=t1c.*")


@pytest.fixture
def patients(tmp_path):
    """Two folders; the second channel is coarser, elsewhere in its headers, and of another format."""
    for number, name in enumerate(("anna", "bert")):
        write(image_of(noise(number), OBLIQUE), tmp_path, "patients", name, "t1.nii.gz")
        coarse = image_of(noise(number + 2)[::2, ::2], np.eye(3), (1.0, 2.6, 5.0))
        coarse.SetOrigin((95.0, -45.0, 3.0))
        write(coarse, tmp_path, "patients", name, "t1c.mha")
    return tmp_path / "patients"


@pytest.fixture
def predicted(tmp_path, make_model):
    """`(*flags)` → the label map of anna."""
    make_model()

    def run(source, *flags, model=(), output="out"):
        words = [
            "-o",
            tmp_path / output,
            "-m",
            tmp_path / "nnUNet_results",
            *model,
            "-device",
            "cpu",
            "-npp",
            0,
            "-nps",
            0,
        ]
        main(
            [*map(str, words), "--disable_progress_bar", "--disable_tta", "-step_size", "1", *source, *map(str, flags)]
        )
        return sitk.ReadImage(str(tmp_path / output / "anna.nii.gz"))

    return run


def test_scans_are_prepared_and_predicted(patients, predicted, tmp_path, nnunet_folders):
    prepare(PreparationRequest(patients, "Dataset001_Same", CHANNELS, processes=1))
    images = nnunet_folders / "nnUNet_raw" / "Dataset001_Same" / "imagesTs"
    expected = predicted(("-i", str(images)), output="in_two_steps")
    made = predicted(("--scans", str(patients)), "--channels", *CHANNELS[::-1])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(expected))
    assert len(np.unique(sitk.GetArrayFromImage(made))) > 1
    scan = sitk.ReadImage(str(patients / "anna" / "t1.nii.gz"))
    assert made.GetSize() == scan.GetSize() and made.GetOrigin() == scan.GetOrigin()
    on_other = predicted(("--scans", str(patients)), "--channels", *CHANNELS, "--grid_of", "T1c", output="coarse")
    assert on_other.GetSize() == sitk.ReadImage(str(patients / "anna" / "t1c.mha")).GetSize()
    assert not [path for path in (tmp_path / "out").iterdir() if path.is_dir()]


def test_a_dicom_segmentation_beside_the_answer(patients, predicted, tmp_path, capsys):
    pytest.importorskip("highdicom", reason='highdicom is not installed: pip install "nnunet-xmodal[dicom]"')
    scan = sitk.ReadImage(str(patients / "anna" / "t1.nii.gz"))
    (patients / "anna" / "t1.nii.gz").unlink()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    (patients / "anna" / "t1.dicom").mkdir()
    for index in range(scan.GetSize()[2]):
        part = sitk.Cast(scan[:, :, index : index + 1], sitk.sitkInt16)
        for tag, value in (("0010|0020", "A"), ("0008|0060", "MR"), ("0020|000d", "1.2"), ("0020|000e", "1.2.3")):
            part.SetMetaData(tag, value)
        part.SetMetaData("0008|0018", f"1.2.4.{index}")
        part.SetMetaData("0020|0052", "1.2.9")
        writer.SetFileName(str(patients / "anna" / "t1.dicom" / f"{index}.dcm"))
        for _ in range(2):  # before it has read anything GDCM takes a fractional slice for an enhanced one
            writer.Execute(part)
            sitk.ReadImage(writer.GetFileName())
    made = predicted(("--scans", str(patients)), "--channels", *CHANNELS, "--dicom_seg")
    segments = pydicom.dcmread(tmp_path / "out" / "anna.dcm")
    assert [segment.SegmentLabel for segment in segments.SegmentSequence] == ["edema", "tumour"]
    assert segments.FrameOfReferenceUID == "1.2.9"
    check_masks(tmp_path / "out" / "anna.dcm", made, {"edema": (1,), "tumour": (2,)})
    assert "bert: " in capsys.readouterr().out and not (tmp_path / "out" / "bert.dcm").exists()


@pytest.mark.parametrize(
    "flags, said",
    [
        (("--channels", "T1=t1.*"), "--channels lacks T1c"),
        (("--channels", "PET=t1.*", *CHANNELS), "--channels names PET, and the model reads T1, T1c"),
        ((), "--channels lacks T1"),
        (("--channels", "T1=t1.*", "T1c=t1c.*", "--grid_of", "T2"), "unknown channel T2"),
        (("--channels", "T1=t1.*", "T1c=*pet*"), r"matches *pet*"),
        (("-i", "in"), "two inputs"),
    ],
)
def test_refused_before_anything_is_written(patients, predicted, tmp_path, capsys, flags, said):
    with pytest.raises(SystemExit):
        predicted(("--scans", str(patients)), *flags)
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_case_that_cannot_be_prepared(patients, predicted, tmp_path, capsys):
    (patients / "bert" / "t1c.mha").unlink()
    with pytest.raises(SystemExit):
        predicted(("--scans", str(patients)), "--channels", *CHANNELS)
    assert "bert: T1c is missing" in capsys.readouterr().err and not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["-i", "in", "-o", "out", "-m", "model", "--register"])
    assert "--register is about scans" in capsys.readouterr().err


@pytest.mark.slow
def test_one_case_in_grand_challenges_layout(make_model, patients, tmp_path):
    make_model()
    for socket, file in (("t1-mri", "t1.nii.gz"), ("t1c-mri", "t1c.mha")):
        image = sitk.ReadImage(str(patients / "anna" / file))
        write(image, tmp_path, "input", "images", socket, "b3f0.mha")
    places = {"INPUT": tmp_path / "input", "OUTPUT": tmp_path / "output", "MODEL": tmp_path / "nnUNet_results"}
    said = {"CHANNELS": "T1c=t1c-mri T1=t1-mri", "ANSWER": "tumour", "FLAGS": "--disable_tta"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, **{name: str(place) for name, place in places.items()}, **said, "PATH": path}
    script = Path(__file__).parents[3] / "container" / "grand_challenge.sh"
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr  # ITK's, of metadata that the format does not know
    made = sitk.ReadImage(str(tmp_path / "output" / "images" / "tumour" / "output.mha"))
    assert made.GetSize() == sitk.ReadImage(str(patients / "anna" / "t1.nii.gz")).GetSize()
    (tmp_path / "taken" / "images" / "tumour" / "output.mha" / "folder").mkdir(parents=True)
    taken = environment | {"OUTPUT": str(tmp_path / "taken")}
    done = subprocess.run(["sh", script], env=taken, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and "output.mha" in done.stderr
    environment["CHANNELS"] = "T1=t1-mri T1c=gone"
    done = subprocess.run(["sh", script], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2 and "gone" in done.stderr
