"""Steps and final validation of a registration on two ranks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal.catalogue.groups import GROUPS
from nnunet_xmodal.tasks.registration.loader import FixedStartsLoader, RegistrationLoader
from nnunet_xmodal.tasks.registration.training_cases import RegistrationCases
from nnunet_xmodal.tasks.registration.validation import Starts, validate_registration

GRID = (4, 8, 8)
VARIANTS = ("nnUNetTrainerAttentionRegLabel", "nnUNetTrainerFeatureReg")
"""Of Attention-Reg, without a block of their own."""


class InMemory:
    """Three cases, as much of nnU-Net's dataset as is asked for."""

    source_folder, identifiers = "nowhere", ["a", "b", "c"]

    def load_case(self, case):
        data = np.random.default_rng(ord(case)).normal(size=(2, *GRID)).astype(np.float32)
        label = np.zeros((1, *GRID), np.int16)
        label[0, 1:3, 2:6, 2:6] = 1
        place = {"spacing": (5.0, 5.0, 8.0), "origin": (0.0, 0.0, 0.0), "direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}
        before = {"bbox_used_for_cropping": [[0, side] for side in GRID], "sitk_stuff": place}
        return data, label, None, before | {"shape_after_cropping_and_before_resampling": GRID}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in GROUPS["registration"] if name not in VARIANTS])
def test_both_ranks_learn_the_same_and_share_the_validation(
    name, make_trainer, make_plans, nnunet_folders, on_two_ranks
):
    plans = make_plans(dimensions=3, patch_size=GRID)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] = {"grid": list(GRID)}
    trainer = make_trainer(name, plans)
    start = trainer.network.state_dict()
    torch.save(start, nnunet_folders / "start.pth")
    on_two_ranks(__file__, nnunet_folders, trainer)
    first, second = (torch.load(nnunet_folders / f"{rank}.pth") for rank in range(2))
    for name, _ in trainer.network.named_parameters():
        assert torch.equal(first[name], second[name]) and not torch.equal(first[name], start[name]), name
    summary = json.loads((nnunet_folders / "validation" / "summary.json").read_text())
    cases = [Path(content["prediction_file"]).name for content in summary["metric_per_case"]]
    assert cases == ["a.nii.gz", "b.nii.gz", "c.nii.gz"]


def train_on_rank(rank: int, folder: Path, made: nnUNetTrainer) -> None:
    from two_ranks import initialize_on_rank  # which runs this

    initialize_on_rank(made, rank, folder / "start.pth")
    cases = RegistrationCases(InMemory(), (0, 1, 2), GRID, [1])
    loader = RegistrationLoader(cases, batch_size=4)
    made.network.train()
    for _ in range(3):
        made.train_step(next(loader))
    made.dataloader_val = FixedStartsLoader(cases, 2, made.sre_range, 2)
    made.on_validation_epoch_start()
    with torch.no_grad():
        outputs = [made.validation_step(next(made.dataloader_val)) for _ in range(1 + rank)]  # not the same number
    made.on_validation_epoch_end(outputs)
    validate_registration(
        made.method(), cases, made.dataset_json, folder, Starts(count=2), lambda line: None, rank, ranks=2
    )
    torch.save(made.plain_network.state_dict(), folder / f"{rank}.pth")
