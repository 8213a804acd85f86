"""Regions with an ignore label; our planner; a trainer of one's own in a second folder."""

import json
import os
import shutil

import pytest

from nnunet_xmodal.discovery import PLUGIN_FOLDER

pytestmark = pytest.mark.slow

DATASET = "Dataset902_Regions"


@pytest.fixture(scope="module")
def regions(workspace, phantoms, with_regions_and_ignore, shrink):
    folder = workspace.raw / DATASET
    shutil.copytree(phantoms, folder)
    with_regions_and_ignore(folder)
    workspace.plan(902, "-c", "2d", "-pl", "XModalPlanner", "--streams", "ADC", "T2W")
    shrink(workspace.plans_file(DATASET, "nnUNetXModalPlans"))
    return workspace


def train(workspace, trainer, **environment) -> str:
    return workspace.run("nnUNetv2_train", 902, "2d", 0, "-tr", trainer, "-p", "nnUNetXModalPlans", "-device", "cpu",
                         **environment)  # fmt: skip


@pytest.mark.parametrize("trainer", ["nnUNetTrainerCSAD_1epochs_1its", "nnUNetTrainerCSADPaper_1epochs_1its"])
def test_regions_with_an_ignore_label_and_the_streams_of_our_planner(regions, trainer):
    train(regions, trainer)
    model = regions.model(DATASET, trainer, "2d", "nnUNetXModalPlans")
    summary = json.loads((model / "fold_0" / "validation" / "summary.json").read_text())
    assert set(summary["mean"]) == {"(1, 2)", "(2,)"}
    plans = json.loads((model / "plans.json").read_text())
    assert plans["xmodal"]["streams"] == [[1], [0]]


def test_stock_trainer_trains_the_network_of_our_plans(regions):
    train(regions, "nnUNetTrainer_1epochs_1its")
    plans = json.loads(regions.plans_file(DATASET, "nnUNetXModalPlans").read_text())
    architecture = plans["configurations"]["2d"]["architecture"]
    assert architecture["network_class_name"] == "nnunet_xmodal.networks.multi_stream_unet.MultiStreamUNet"
    assert architecture["arch_kwargs"]["streams"] == [[1], [0]]


def test_a_second_pairing_is_planned_on_the_same_data_trained_and_moved(regions, shrink):
    before = {file: file.stat().st_mtime_ns for file in (regions.preprocessed / DATASET).rglob("*.b2nd")}
    regions.plan(902, "-pl", "XModalResEncPlannerM", "--iso_compute", "--streams", "T2W+ADC", "--no_pp")
    regions.plan(902, "-pl", "XModalResEncPlannerM", "--iso_compute", "--streams", "T2W", "ADC", "--no_pp",
                 "-overwrite_plans_name", "Pairs")  # fmt: skip
    plans = json.loads(regions.plans_file(DATASET, "Pairs").read_text())
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["reduce_skips"] is False
    regions.run("nnUNetv2_move_plans_between_datasets", "-s", 902, "-t", 901, "-sp", "Pairs", "-tp", "Moved")
    moved = json.loads(regions.plans_file("Dataset901_Phantom", "Moved").read_text())
    assert moved["configurations"]["2d"]["architecture"] == plans["configurations"]["2d"]["architecture"]

    assert plans["configurations"]["2d"]["data_identifier"] == "nnUNetPlans_2d"
    shrink(regions.plans_file(DATASET, "Pairs"))
    for trainer in ("nnUNetTrainer_1epochs_1its", "nnUNetTrainerCSADFA_1epochs_1its"):
        regions.run("nnUNetv2_train", 902, "2d", 0, "-tr", trainer, "-p", "Pairs", "-device", "cpu")
    assert before and before == {file: file.stat().st_mtime_ns for file in before}


def test_a_trainer_of_ones_own_in_a_second_folder(regions):
    folder = regions.root / "my_trainers"
    folder.mkdir()
    (folder / "my_trainers.py").write_text(
        "from nnunet_xmodal.trainers import nnUNetTrainerCSAD_1epochs_1its\n\n\n"
        "class nnUNetTrainerCSADMine(nnUNetTrainerCSAD_1epochs_1its):\n"
        "    alpha = 0.1\n"
        "    deep_supervision = False\n"
    )
    train(regions, "nnUNetTrainerCSADMine", nnUNet_extTrainer=os.pathsep.join([PLUGIN_FOLDER, str(folder)]))
    model = regions.model(DATASET, "nnUNetTrainerCSADMine", "2d", "nnUNetXModalPlans")
    assert (model / "fold_0" / "checkpoint_final.pth").is_file()
    debug = json.loads((model / "fold_0" / "debug.json").read_text())
    assert debug["enable_deep_supervision"] == "False" and debug["alpha"] == "0.1"
