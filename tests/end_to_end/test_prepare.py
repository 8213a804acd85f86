"""From native scans to predictions that open on them, by commands."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry.resampling import same_grid

pytestmark = pytest.mark.slow

DATASET = "Dataset930_Native"
OBLIQUE = Rotation.from_euler("xyz", [10, -7, 15], degrees=True).as_matrix()
TRAINER = "nnUNetTrainerCSAD_1epochs_1its"


def scan(size, spacing, direction, lesion, label=False):
    """Noise around a bright ball with a radius of 7 mm, on a grid around the origin."""
    index = np.stack(np.meshgrid(*[np.arange(side) for side in size], indexing="ij"), -1)
    points = (index - (np.array(size) - 1) / 2) * spacing @ direction.T
    ball = (((points - lesion) ** 2).sum(-1) < 49).T
    rng = np.random.default_rng(size[0])
    image = sitk.GetImageFromArray(
        ball.astype(np.uint8) if label else (100 + 200 * ball + rng.normal(0, 10, ball.shape)).astype(np.int16)
    )
    image.SetSpacing([float(mm) for mm in spacing])
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin((-direction @ ((np.array(size) - 1) / 2 * spacing)).tolist())
    return image


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for number in range(6):
        patient, lesion = folder / f"patient{number}", np.array([number - 3.0, 2.0, 1.0])
        patient.mkdir()
        t2w = (40, 44, 16), (1.0, 1.0, 3.0), OBLIQUE, lesion
        sitk.WriteImage(scan(*t2w), str(patient / "t2w.mha"))
        sitk.WriteImage(scan((26, 24, 18), (2.0, 2.0, 2.6), np.eye(3), lesion), str(patient / "adc.mha"))
        if number < 5:
            sitk.WriteImage(scan(*t2w, label=True), str(patient / "lesion.nii.gz"))
    (folder / "patient7").mkdir()
    return folder


def prepare(workspace, patients, *flags, fails=False, output=DATASET):
    return workspace.run(
        "nnUNetXModal_prepare", "-i", patients, "-o", output, "--channels", "T2W=t2w*", "ADC=adc*", "--label",
        "lesion*", "--labels", "lesion=1", "-np", 2, *flags, fails=fails,
    )  # fmt: skip


def test_scans_are_prepared_planned_trained_and_predicted_on(workspace, patients, shrink):
    output = prepare(workspace, patients, fails=True)  # for the empty folder
    assert (
        "6 cases prepared, 0 were done before, 1 at fault" in output and "patient7: T2W and ADC are missing" in output
    )
    workspace.plan(930, "-c", "2d")
    shrink(workspace.plans_file(DATASET))
    workspace.run("nnUNetv2_train", 930, "2d", 0, "-tr", TRAINER, "-device", "cpu")
    images, predictions = workspace.raw / DATASET / "imagesTs", workspace.root / "predictions930"
    workspace.run("nnUNetXModal_predict", "-i", images, "-o", predictions, "-d", 930, "-c", "2d", "-tr", TRAINER,
                  "-f", 0, "-device", "cpu", "-npp", 0, "-nps", 0)  # fmt: skip
    prediction = sitk.ReadImage(str(predictions / "patient5.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(patients / "patient5" / "t2w.mha")))


def test_a_model_of_crops_predicts_whole_scans_within_masks(workspace, patients, shrink):
    """Masks on a grid of their own; the margin is that of the training; crops that are predicted as such lie alike."""
    name, masks = "Dataset931_Crop", workspace.root / "masks"
    masks.mkdir()
    for number in range(6):
        mask = scan((30, 30, 30), (1.5, 1.5, 1.5), np.eye(3), np.array([number - 3.0, 2.0, 1.0]), label=True)
        sitk.WriteImage(mask, str(masks / f"patient{number}.nii.gz"))
    prepare(workspace, patients, "--roi", masks, "--margin", 4, fails=True, output=name)
    workspace.plan(931, "-c", "2d")
    shrink(workspace.plans_file(name))
    workspace.run("nnUNetv2_train", 931, "2d", 0, "-tr", TRAINER, "-device", "cpu")
    model = ("-d", 931, "-c", "2d", "-tr", TRAINER, "-f", 0, "-device", "cpu")
    whole, crops, pasted = (workspace.root / folder for folder in ("whole931", "crops931", "pasted931"))
    scans, cut = (workspace.raw / dataset / "imagesTs" for dataset in (DATASET, name))  # the former of the test above
    said = workspace.run("nnUNetXModal_predict", "-i", scans, "-o", whole, *model, "--roi", masks, "-npp", 1, "-nps", 1)
    assert "Warning: the model" not in said
    said = workspace.run("nnUNetXModal_predict", "-i", cut, "-o", crops, *model, "-npp", 0, "-nps", 0)
    assert "trained on images cropped to an organ and 4 mm around it" in said
    workspace.run("nnUNetXModal_paste", "-i", crops, "-o", pasted, "-d", 931)
    found, back = (sitk.ReadImage(str(folder / "patient5.nii.gz")) for folder in (whole, pasted))
    reference = sitk.ReadImage(str(patients / "patient5" / "t2w.mha"))
    assert same_grid(found, reference) and same_grid(back, reference)
    assert np.array_equal(*map(sitk.GetArrayFromImage, (found, back)))


def test_what_was_made_of_a_crop_goes_back_to_the_scan(workspace, patients):
    name, back = "Dataset932_Crop", workspace.root / "back"
    assert "1 cases prepared" not in prepare(
        workspace, patients, "--roi", "lesion", "--margin", 4, fails=True, output=name
    )
    with open(workspace.raw / name / "prepare.csv", newline="") as file:
        faults = {row["case"]: row["note"] for row in csv.DictReader(file) if row["status"] == "fault"}
    assert set(faults) == {"patient5", "patient7"} and "no label to crop to" in faults["patient5"]
    workspace.run("nnUNetXModal_paste", "-i", workspace.raw / name / "labelsTr", "-o", back, "-d", 932)
    files = patients / "patient0" / "lesion.nii.gz", back / "patient0.nii.gz"
    label, pasted = (sitk.ReadImage(str(file)) for file in files)
    assert same_grid(pasted, label) and np.array_equal(*map(sitk.GetArrayFromImage, (pasted, label)))
