"""Registration by real commands: planned, preprocessed and trained like everything else, compared with baselines."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from nnunet_xmodal.phantoms.mr_us import write_mr_us_dataset

pytestmark = pytest.mark.slow

DATASET = "Dataset951_MrUs"
PLANS = "nnUNetRegistrationPlans"
TRAINER = "nnUNetTrainerAttentionReg_2epochs_2its"
LABEL = "nnUNetTrainerAttentionRegLabel_1epochs_2its"
BASELINES = Path(__file__).parents[2] / "benchmarks" / "experiments" / "registration_baselines.py"
METRICS = {
    "SRE_before_mm", "SRE_mm", "SRE_from_8mm_mm", "SRE_from_16mm_mm", "translation_error_mm", "rotation_error_deg",
    "Dice", "seconds",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(make_workspace):
    """Six phantoms on a grid of 16×32×32, two trainers on fold 0."""
    space = make_workspace("registration")
    write_mr_us_dataset(space.raw / DATASET, 6, 1, 0, shape=(24, 32, 32), spacing=(3.0, 2.4, 2.4))
    space.plan(951, "-pl", "RegistrationPlanner", "--grid", 16, 32, 32, "--no_pp")
    space.run("nnUNetv2_preprocess", "-d", 951, "-plans_name", PLANS, "-c", "3d_fullres", "-np", 1)
    for trainer in (TRAINER, LABEL):
        train(space, trainer)
    return space


def train(space, trainer: str, *more) -> None:
    space.run("nnUNetv2_train", 951, "3d_fullres", 0, "-tr", trainer, "-p", PLANS, "-device", "cpu", *more)


def fold_of(space, trainer: str = TRAINER) -> Path:
    return space.model(DATASET, trainer, "3d_fullres", PLANS) / "fold_0"


def summary_of(space, trainer: str = TRAINER) -> dict:
    return json.loads((fold_of(space, trainer) / "validation" / "summary.json").read_text())


def test_the_grid_of_the_command_line_is_planned(trained):
    plans = json.loads(trained.plans_file(DATASET, PLANS).read_text())
    assert plans["configurations"]["3d_fullres"]["patch_size"] == [16, 32, 32]
    said = trained.run("nnUNetXModal_plan_and_preprocess", "-d", 951, "-pl", "XModalPlanner", "--grid", 16, 32, 32,
                       "-npfp", 1, fails=True)  # fmt: skip
    assert said.splitlines()[-1] == "error: --grid says nothing to XModalPlanner: take one of RegistrationPlanner."
    said = trained.run("nnUNetXModal_plan_and_preprocess", "-d", 951, "-pl", "RegistrationPlanner", "--grid", 2, 32, 32,
                       "-npfp", 1, "--no_pbar", fails=True)  # fmt: skip
    assert "error: a registration grid has three sides of at least 4×8×8" in said.splitlines()[-1]


@pytest.mark.parametrize("trainer", [TRAINER, LABEL])
def test_the_final_validation_measures_every_case(trained, trainer):
    summary = summary_of(trained, trainer)
    splits = json.loads((trained.preprocessed / DATASET / "splits_final.json").read_text())
    cases = [Path(content["prediction_file"]).name for content in summary["metric_per_case"]]
    assert cases == [f"{case}.nii.gz" for case in splits[0]["val"]]
    ((key, means),) = summary["mean"].items()
    assert key == "1" and set(means) == METRICS and np.isfinite(list(means.values())).all()
    assert set(summary["xmodal"]["directions"]) == METRICS - {"SRE_before_mm"}
    assert all(len(content["starts"]["SRE_mm"]) == 40 for content in summary["metric_per_case"])
    log = "".join(file.read_text() for file in fold_of(trained, trainer).glob("training_log_*.txt"))
    assert f"Fixed image: {'label' if 'Label' in trainer else 'MR'}, moving image: US" in log
    assert f"predicting {splits[0]['val'][0]}" in log and "Validation complete" in log and "SRE: " in log


def test_it_is_validated_again_and_continued(trained):
    fold = fold_of(trained)
    before = summary_of(trained)["mean"]["1"]
    shutil.rmtree(fold / "validation")
    train(trained, TRAINER, "--val")
    again = summary_of(trained)["mean"]["1"]
    assert again | {"seconds": 0} == before | {"seconds": 0}
    (fold / "checkpoint_best.pth").rename(fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    train(trained, TRAINER, "--c")
    assert (fold / "checkpoint_final.pth").is_file()


def test_the_comparison_tabulates_trainers_and_baselines(trained, tmp_path):
    trained.run(sys.executable, BASELINES, "-d", 951, "-f", 0, "--methods", "mind", "refined", "--first", TRAINER,
                "--starts", 2, "--exact", 8, "--exact_count", 1, "--threads", 1)  # fmt: skip
    trained.run("nnUNetXModal_compare", "-d", 951, "-c", "3d_fullres", "-p", PLANS, "-f", 0, "-o", tmp_path,
                "-tr", TRAINER, LABEL, "MIND", "RefinedByMI")  # fmt: skip
    header, *rows = (tmp_path / "cases.csv").read_text().splitlines()
    assert METRICS <= set(header.split(",")) and len(rows) == 4 * 2 and ",prostate," in rows[0]
    table = (tmp_path / "summary.md").read_text()
    assert "SRE_mm ↓" in table and "| MIND " in table and "| RefinedByMI " in table


def test_plans_of_segmentation_are_refused(trained):
    trained.plan(951, "-pl", "ExperimentPlanner", "--no_pp")
    said = trained.run("nnUNetv2_train", 951, "3d_fullres", 0, "-tr", TRAINER, "-device", "cpu", fails=True)
    assert "plan with nnUNetXModal_plan_and_preprocess -pl RegistrationPlanner" in said.splitlines()[-1]
