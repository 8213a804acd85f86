"""Explanations tell the truth: where lesions show in one modality only, it gets the credit, in a trained model."""

import csv
import runpy
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.explain import parser, request_of
from nnunet_xmodal.explain import explain
from nnunet_xmodal.phantoms.shown_in_one import CHANNELS, LABELS, SHOWS, write_one_modality_dataset

pytestmark = pytest.mark.slow

EXPERIMENTS = Path(__file__).parents[3] / "benchmarks" / "experiments"
CASES = 200  # with 16 a network knows them by heart, and finds lesions in T2W that it does not show


def built(trainer, plans, dataset_json):
    manager = PlansManager(plans)
    kind = nnUNetTrainer if trainer == "nnUNetTrainer" else getattr(trainers, trainer)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    return kind.build_network_architecture(manager, manager.get_configuration("2d"), 2, heads, False)


@pytest.mark.parametrize("trainer", ["nnUNetTrainer", "nnUNetTrainerAnyStreams"])
def test_the_one_modality_gets_the_credit_and_shuffled_weights_give_none(
    trainer, nnunet_folders, make_plans, write_model, tmp_path
):
    plans = make_plans(2, streams=None if trainer == "nnUNetTrainer" else [[0], [1]], widths=(8, 16, 16),
                       patch_size=(32, 32))  # fmt: skip
    plans["configurations"]["2d"]["spacing"] = [1.5, 1.5]
    names = {str(number): name for number, name in enumerate(CHANNELS)}
    dataset_json = {"channel_names": names, "labels": LABELS, "numTraining": CASES, "file_ending": ".nii.gz"}
    raw = tmp_path / "Dataset952_OneModality"
    write_one_modality_dataset(raw, n_train=1, n_test=4, seed=9)
    torch.manual_seed(0)
    network = built(trainer, plans, dataset_json)
    train = runpy.run_path(str(EXPERIMENTS / "one_modality.py"))["train"]
    train(network, [(0, 0, case) for case in range(CASES)], seed=0, absent=True)

    def told(output: str) -> dict:
        words = ["-i", raw / "imagesTs", "--gt", raw / "labelsTs", "-o", tmp_path / output, "-c", "2d", "-tr", trainer]
        words += ["-d", "Dataset999_Tiny", "-f", 0, "-device", "cpu", "-npp", 0, "--disable_tta"]
        explain(request_of(parser().parse_args([*map(str, words), "--disable_progress_bar"])))
        with open(tmp_path / output / "shapley.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        return {(row["case"], row["measure"], row["player"]): row for row in rows}

    folder = write_model(trainer, plans, dataset_json, [network])
    rows = told("trained")
    shows = CHANNELS[SHOWS]
    for (case, measure, player), row in rows.items():
        if measure == "Dice":
            assert float(row["with_all"]) > 0.6, "not trained: nothing is shown"
        if player == shows:
            assert float(row["credit"]) >= 0.95, (case, measure, row)

    shuffled = {}
    for name, weights in network.state_dict().items():
        shuffled[name] = weights.flatten()[torch.randperm(weights.numel())].view_as(weights)
    network.load_state_dict(shuffled)
    checkpoint = folder / "fold_0" / "checkpoint_final.pth"
    checkpoint.unlink(), checkpoint.parent.rmdir()
    write_model(trainer, plans, dataset_json, [network])
    credits = [float(row["credit"] or "nan") for (_, _, player), row in told("shuffled").items() if player == shows]
    assert not any(credit >= 0.95 for credit in credits), credits
