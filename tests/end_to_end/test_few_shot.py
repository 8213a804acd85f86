"""Few-shot segmentation by real commands, on a machine that reaches no network, with two labelled scans of five."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.phantoms.organs import write_organ_dataset

pytestmark = pytest.mark.slow

DATASET, NUMBER = "Dataset961_Organs", 961
PLANS = "nnUNetFewShotPlans"
TRAINER = "nnUNetTrainerCRTPR18_1epochs_2its"
OTHER = "nnUNetTrainerPANetR18_1epochs_2its"
ORGANS = {"1", "2", "3", "4"}
LABELLED = ("organs_tr000", "organs_tr001")
FAST = ("-device", "cpu", "-npp", 0, "-nps", 0)


@pytest.fixture(scope="module")
def trained(make_workspace):
    """Phantoms of 12×56×64, two trainers on fold 0, which is validated on a labelled case."""
    space = make_workspace("few_shot")
    raw = space.raw / DATASET
    write_organ_dataset(raw, cases=5, contrast="mr", shape=(12, 56, 64), test_cases=1)
    for label in (raw / "labelsTr").iterdir():
        if not label.name.startswith(LABELLED):
            label.unlink()
    said = space.run("nnUNetXModal_plan_and_preprocess", "-d", NUMBER, "-pl", "FewShotPlanner", "--size", 64, "-c",
                     "2d", "--unlabelled", "-np", 1, "-npfp", 1, "--no_pbar")  # fmt: skip
    assert "Patch [64, 64]" in said
    cases = [f"organs_tr{index:03d}" for index in range(5)]
    split = {"train": [case for case in cases if case != LABELLED[1]], "val": [LABELLED[1]]}
    write_json([split] * 5, space.preprocessed / DATASET / "splits_final.json")
    space.said = {trainer: train(space, trainer) for trainer in (TRAINER, OTHER)}
    return space


@pytest.fixture(scope="module")
def predicted(trained):
    """With nnU-Net's own command."""
    output = trained.root / "stock"
    said = trained.run("nnUNetv2_predict", *prediction(trained, output), *FAST, **closed(trained))
    assert "random weights" not in said
    return output


def closed(space) -> dict[str, str]:
    """No proxy answers on this port, and no weights lie in this folder."""
    return {"HTTPS_PROXY": "http://127.0.0.1:9", "TORCH_HOME": str(space.root / "torch")}


def train(space, trainer: str, *more, fold: int | str = 0) -> str:
    return space.run("nnUNetv2_train", NUMBER, "2d", fold, "-tr", trainer, "-p", PLANS, "-device", "cpu", *more,
                     **closed(space))  # fmt: skip


def prediction(space, output: Path, trainer: str = TRAINER) -> tuple:
    images = space.raw / DATASET / "imagesTs"
    return "-i", images, "-o", output, "-d", NUMBER, "-c", "2d", "-p", PLANS, "-tr", trainer, "-f", 0


def fold_of(space, trainer: str = TRAINER, fold: int | str = 0) -> Path:
    return space.model(DATASET, trainer, "2d", PLANS) / f"fold_{fold}"


def summary_of(space, trainer: str = TRAINER, fold: int | str = 0) -> dict:
    return json.loads((fold_of(space, trainer, fold) / "validation" / "summary.json").read_text())


def array(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def log_of(space, trainer: str = TRAINER) -> str:
    return "".join(log.read_text() for log in fold_of(space, trainer).glob("training_log_*.txt"))


def test_missing_label_maps_were_written_and_are_empty(trained):
    labels = sorted((trained.raw / DATASET / "labelsTr").iterdir())
    assert [bool(array(label).any()) for label in labels] == [True, True, False, False, False]


def test_without_a_network_a_training_starts_from_random_weights_and_says_so_once(trained):
    for trainer, said in trained.said.items():
        assert said.count("resnet18 starts from random weights") == 1, trainer
        assert "Training done." in said


def test_support_is_of_the_labelled_training_case(trained):
    lines = [line for line in log_of(trained).splitlines() if "Support: label" in line]
    assert len(lines) == 4 and all(line.count(LABELLED[0]) == 3 for line in lines)


@pytest.mark.parametrize("trainer", [TRAINER, OTHER])
def test_the_final_validation_measures_both_ways(trained, trainer):
    summary = summary_of(trained, trainer)
    (case,) = summary["metric_per_case"]
    assert Path(case["prediction_file"]).name == f"{LABELLED[1]}.nii.gz"
    assert set(case["metrics"]) == set(summary["mean"]) == ORGANS
    for metrics in (*case["metrics"].values(), *summary["mean"].values(), summary["foreground_mean"]):
        assert {"Dice", "protocol_Dice"} <= set(metrics) and 0 <= metrics["protocol_Dice"] <= 1
    assert summary["xmodal"]["directions"] == {"protocol_Dice": "higher"}
    assert f"Mean protocol_Dice: {summary['foreground_mean']['protocol_Dice']:.4f}" in log_of(trained, trainer)


def test_superpixels_have_a_folder_of_their_own(trained):
    folder = trained.preprocessed / DATASET
    (maps,) = folder.glob("*_superpixels")
    assert len(list(maps.glob("*/*.b2nd"))) == 5
    assert {file.suffix for file in (folder / maps.name.removesuffix("_superpixels")).iterdir()} <= {".b2nd", ".pkl"}


def test_nnunets_command_is_ours_with_the_best_of_all_supports(trained, predicted):
    output = trained.root / "best"
    trained.run("nnUNetXModal_predict", *prediction(trained, output), "--match", "best", *FAST)
    (file,) = predicted.glob("*.nii.gz")
    assert (array(file) == array(output / file.name)).all()
    output = trained.root / "by_position"
    trained.run("nnUNetXModal_predict", *prediction(trained, output), "-device", "cpu", "-npp", 1, "-nps", 1,
                "--save_probabilities")  # fmt: skip
    assert set(np.unique(array(output / file.name))) <= {0, 1, 2, 3, 4}
    probabilities = np.load(output / file.name.replace("nii.gz", "npz"))["probabilities"]
    assert (probabilities.argmax(0) == array(output / file.name)).all()


def test_a_support_of_other_labels(trained, tmp_path):
    support = tmp_path / "support"
    for kind, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (support / kind).mkdir(parents=True)
        shutil.copy(trained.raw / DATASET / kind / f"{LABELLED[0]}{ending}", support / kind)
    described = json.loads((trained.raw / DATASET / "dataset.json").read_text())
    described |= {"numTraining": 1, "labels": {"background": 0, "organ": [1, 2, 3, 4], "kidneys": [2, 3]}}
    write_json(described | {"regions_class_order": [1, 2]}, support / "dataset.json")
    said = trained.run("nnUNetXModal_predict", *prediction(trained, tmp_path / "out"), "-device", "cpu", "-npp", 1,
                       "-nps", 1, "--support", support, **closed(trained))  # fmt: skip
    assert said.count(f"{LABELLED[0]} slice") == 6 and "random weights" not in said
    (file,) = (tmp_path / "out").glob("*.nii.gz")
    assert set(np.unique(array(file))) <= {0, 1, 2}
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"] == described["labels"]
    said = trained.run("nnUNetXModal_predict", *prediction(trained, tmp_path / "none"), *FAST, "--support", tmp_path,
                       fails=True)  # fmt: skip
    assert said.splitlines()[-1].startswith(f"error: {tmp_path / 'dataset.json'} is missing: --support takes")
    assert not (tmp_path / "none").exists()


def test_the_comparison_tabulates_both_metrics(trained, tmp_path):
    said = trained.run("nnUNetXModal_compare", "-d", NUMBER, "-c", "2d", "-p", PLANS, "-f", 0, "-o", tmp_path,
                       "-tr", TRAINER, OTHER, **closed(trained))  # fmt: skip
    header, *rows = (tmp_path / "cases.csv").read_text().splitlines()
    assert {"Dice", "protocol_Dice"} <= set(header.split(",")) and len(rows) == 2 * 4
    told = {row.split(",")[4]: float(row.split(",")[header.split(",").index("protocol_Dice")]) for row in rows[:4]}
    names = {"liver": "1", "right_kidney": "2", "left_kidney": "3", "spleen": "4"}
    means = summary_of(trained)["mean"]
    assert told == pytest.approx({name: means[key]["protocol_Dice"] for name, key in names.items()})
    assert "protocol_Dice ↑" in (tmp_path / "summary.md").read_text()
    assert "random weights" not in said and "left out" not in said


def test_it_is_validated_again_with_the_support_of_its_checkpoint(trained):
    before = summary_of(trained)
    shutil.rmtree(fold_of(trained) / "validation")
    train(trained, TRAINER, "--val", "--npz")
    after = summary_of(trained)
    assert after["foreground_mean"] == before["foreground_mean"] and after["mean"] == before["mean"]
    assert log_of(trained).count("Support: label liver") == 1
    assert len(list((fold_of(trained) / "validation").glob("*.npz"))) == 1


def test_fold_all_and_a_training_that_goes_on(trained):
    train(trained, OTHER, fold="all")
    fold = fold_of(trained, OTHER, "all")
    assert len(summary_of(trained, OTHER, "all")["metric_per_case"]) == 4  # without that of the support
    output = trained.root / "of_fold_all"
    trained.run("nnUNetXModal_predict", *prediction(trained, output, OTHER)[:-1], "all", *FAST)
    assert len(list(output.glob("*.nii.gz"))) == 1
    (fold / "checkpoint_best.pth").rename(fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    train(trained, OTHER, "--c", fold="all")
    assert (fold / "checkpoint_final.pth").is_file()
    assert sum(log.read_text().count("Support: label liver") for log in fold.glob("training_log_*.txt")) == 1


def test_crossval_lists_its_trainings(trained):
    said = trained.run("nnUNetXModal_crossval", "-d", NUMBER, "-c", "2d", "-p", PLANS, "-tr", TRAINER, OTHER,
                       "-f", 0, 1, "--executor", "print")  # fmt: skip
    commands = [line for line in said.splitlines() if "nnUNetv2_train" in line]
    assert len(commands) == 2 and all(" 2d 1 " in line and PLANS in line for line in commands)


def test_it_is_shared_as_a_zip(trained, predicted):
    archive, elsewhere = trained.root / "model.zip", trained.root / "elsewhere"
    trained.run("nnUNetv2_export_model_to_zip", "-d", NUMBER, "-o", archive, "-c", "2d", "-tr", TRAINER, "-p", PLANS,
                "-f", 0)  # fmt: skip
    elsewhere.mkdir()
    alone = {"nnUNet_results": str(elsewhere), "nnUNet_raw": None, "nnUNet_preprocessed": None, **closed(trained)}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, **alone)
    images = shutil.copytree(trained.raw / DATASET / "imagesTs", trained.root / "images")
    arguments = list(prediction(trained, trained.root / "from_zip"))
    arguments[1], arguments[5] = images, DATASET
    said = trained.run("nnUNetv2_predict", *arguments, *FAST, **alone)
    assert "random weights" not in said
    (file,) = predicted.glob("*.nii.gz")
    assert (array(file) == array(trained.root / "from_zip" / file.name)).all()


def test_plans_of_segmentation_are_refused(trained):
    trained.plan(NUMBER, "-pl", "ExperimentPlanner", "--no_pp")
    said = trained.run("nnUNetv2_train", NUMBER, "2d", 0, "-tr", TRAINER, "-device", "cpu", fails=True)
    assert "plan with nnUNetXModal_plan_and_preprocess -pl FewShotPlanner" in said.splitlines()[-1]
