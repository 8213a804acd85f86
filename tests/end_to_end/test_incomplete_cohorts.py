"""A cohort of which some cases lack a channel, through real commands: planned, trained, validated, compared."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms.two_channel import write_phantom_dataset

pytestmark = pytest.mark.slow

DATASET = "Dataset903_Incomplete"
ANY = "nnUNetTrainerAnyStreams_1epochs_2its"
UNPAIRED = "nnUNetTrainerCMFTUnpaired_1epochs_2its"


@pytest.fixture(scope="module")
def cohort(make_workspace, shrink):
    """Seven cases, of which 1 and 5 have no ADC and 2 no T2W, planned, with 4 and 5 for the validation of fold 0."""
    space = make_workspace("cohort")
    folder = space.raw / DATASET
    write_phantom_dataset(folder, n_train=7, n_test=0, seed=1)
    cases = sorted(file.name.removesuffix(".nii.gz") for file in (folder / "labelsTr").iterdir())
    for number, channel in ((1, 1), (5, 1), (2, 0)):
        (folder / "imagesTr" / f"{cases[number]}_{channel:04d}.nii.gz").unlink()
    space.plan(903, "-c", "2d", "--allow_missing")
    shrink(space.plans_file(DATASET))
    split = [{"train": [case for case in cases if case not in cases[4:6]], "val": cases[4:6]}]
    (space.preprocessed / DATASET / "splits_final.json").write_text(json.dumps(split))
    space.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", ANY, "-device", "cpu")
    return space, cases


def test_what_lacks_is_told_and_every_case_is_validated_by_what_it_has(cohort, tmp_path):
    space, cases = cohort
    lacking = {cases[1]: ["ADC"], cases[2]: ["T2W"], cases[5]: ["ADC"]}
    assert json.loads((space.preprocessed / DATASET / "missing.json").read_text()) == lacking
    log = space.log(DATASET, ANY, "2d")
    assert "Incomplete cases: 3, 1 without T2W, 2 without ADC." in log
    assert "Mean Validation Dice, complete (1 case):" in log and "Mean Validation Dice, no ADC (1 case):" in log
    summary = json.loads((space.model(DATASET, ANY, "2d") / "fold_0" / "validation" / "summary.json").read_text())
    assert summary["xmodal"]["missing"] == {cases[4]: [], cases[5]: ["ADC"]}

    space.run("nnUNetXModal_compare", "-d", 903, "-c", "2d", "-tr", ANY, "-f", 0, "--by", "presence", "-o", tmp_path)
    rows = [*csv.DictReader((tmp_path / "presence.csv").read_text().splitlines())]
    assert [(row["presence"], row["cases"]) for row in rows] == [("complete", "1"), ("no ADC", "1")]
    for row in rows:
        assert float(row["Dice (mean)"] or "nan") == pytest.approx(
            summary["xmodal"]["by_presence"][row["presence"]]["foreground_mean"]["Dice"], nan_ok=True
        )


def test_the_validation_is_the_prediction_of_the_files_that_there_are(cohort, tmp_path):
    space, cases = cohort
    images = tmp_path / "images"
    images.mkdir()
    (images / f"{cases[5]}_0000.nii.gz").symlink_to(space.raw / DATASET / "imagesTr" / f"{cases[5]}_0000.nii.gz")
    space.run("nnUNetXModal_predict", "-i", images, "-o", tmp_path / "out", "-d", 903, "-c", "2d", "-tr", ANY, "-f", 0,
              "-device", "cpu", "-npp", 0, "-nps", 0, "--allow_missing")  # fmt: skip
    validated = space.model(DATASET, ANY, "2d") / "fold_0" / "validation" / f"{cases[5]}.nii.gz"
    ours, theirs = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(file))) for file in (tmp_path / "out" / validated.name, validated)
    )
    assert np.array_equal(ours, theirs)


def test_a_pair_of_generators_is_trained_and_who_needs_everything_refuses(cohort):
    space, _ = cohort
    space.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", UNPAIRED, "-device", "cpu")
    assert "1 of 2 validation cases have both streams and are measured." in space.log(DATASET, UNPAIRED, "2d")
    plain = "nnUNetTrainerCSAD_1epochs_2its"
    said = space.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", plain, "-device", "cpu", fails=True)
    assert f"error: {plain} needs every channel, and 3 cases lack some" in said.splitlines()[-1]
