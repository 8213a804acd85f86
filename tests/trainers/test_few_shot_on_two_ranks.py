"""Episodes and both final validations on two ranks."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.catalogue.groups import GROUPS
from nnunet_xmodal.tasks.few_shot.episodes import EpisodeLoader
from nnunet_xmodal.tasks.few_shot.support import fill_support
from nnunet_xmodal.tasks.few_shot.validation import METRIC

SIZE, SLICES = (64, 64), 3
TRAINERS = [name for name in GROUPS["few_shotR18"] if not name.endswith(("CRBaseR18", "CRMaskR18", "ALPR18"))]
"""Without those that have a part of another one's blocks and no block of their own."""


class InMemory:
    """Three cases of two organs, as much of nnU-Net's dataset and of superpixel maps as is asked for."""

    identifiers = ["a", "b", "c"]
    counts = {case: np.full(SLICES, 4) for case in identifiers}

    def load_case(self, case):
        data = np.random.default_rng(ord(case)).normal(size=(1, SLICES, *SIZE)).astype(np.float32)
        label = np.zeros((1, SLICES, *SIZE), np.int16)
        label[:, :, 8:32, 8:40], label[:, 1:, 40:60, 16:48] = 1, 2
        return data + label, label, None, {}

    def slice(self, case, index):
        return 1 + np.add.outer(2 * (np.arange(SIZE[0]) >= 32), np.arange(SIZE[1]) >= 32)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINERS)
def test_both_ranks_learn_the_same_and_share_the_protocol(
    name, make_trainer, make_plans, nnunet_folders, on_two_ranks, monkeypatch
):
    monkeypatch.setattr(getattr(trainers, name), "weights", None)
    plans = make_plans(channels=1, patch_size=SIZE, batch_size=1)
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"] = {"size": list(SIZE), "chunks": 3, "shots": 1}
    trainer = make_trainer(name, plans)
    start = trainer.network.state_dict()
    torch.save(start, nnunet_folders / "start.pth")
    cases = [
        {"metrics": {"1": {"Dice": 0.5}, "2": {"Dice": 0.5}}, "prediction_file": f"validation/{case}.nii.gz"}
        for case in InMemory.identifiers
    ]
    summary = {"metric_per_case": cases, "mean": {"1": {}, "2": {}}, "foreground_mean": {}}
    (nnunet_folders / "validation").mkdir()
    file = nnunet_folders / "validation" / "summary.json"
    file.write_text(json.dumps(summary))
    on_two_ranks(__file__, nnunet_folders, trainer)
    first, second = (torch.load(nnunet_folders / f"{rank}.pth") for rank in range(2))
    for name, _ in trainer.network.named_parameters():
        assert torch.equal(first[name], second[name]) and not torch.equal(first[name], start[name]), name
    for name in first:
        if name.startswith("support."):
            assert torch.equal(first[name], second[name]) and first[name].any(), name
    assert first["drawn"] != second["drawn"]
    summary = json.loads(file.read_text())
    dice = [[case["metrics"][label][METRIC] for case in summary["metric_per_case"]] for label in "12"]
    assert np.isfinite(dice).all()
    assert [summary["mean"][label][METRIC] for label in "12"] == pytest.approx(np.mean(dice, 1).tolist())
    assert summary["foreground_mean"][METRIC] == pytest.approx(np.mean(dice))


def segment_unequal_shares(trainer, save_probabilities):
    """In the place of nnU-Net's final validation: of a single case, so that the second rank has none."""
    trainer.network.eval()
    with torch.inference_mode():
        for _ in range(1 - trainer.local_rank):
            trainer.network(torch.zeros(1, 1, *SIZE))


def train_on_rank(rank: int, folder: Path, made: nnUNetTrainer) -> None:
    from two_ranks import initialize_on_rank  # which runs this

    type(made).weights = None
    initialize_on_rank(made, rank, folder / "start.pth")
    dataset = InMemory()
    loader = EpisodeLoader(dataset, dataset, SIZE, made.batch_size)
    fill_support(made.plain_network, dataset, made.label_manager)
    made.network.train()
    drawn = []
    for _ in range(3):
        batch = next(loader)
        drawn.append((batch["keys"], batch["slices"], batch["superpixels"]))
        made.train_step(batch)
    made.on_validation_epoch_start()
    with torch.no_grad():
        outputs = [made.validation_step(next(loader)) for _ in range(1 + rank)]  # not the same number
    made.on_validation_epoch_end(outputs)
    nnUNetTrainer.perform_actual_validation = segment_unequal_shares
    made.do_split = lambda: (dataset.identifiers, dataset.identifiers)
    made.dataset_class = lambda folder, cases: dataset
    made.output_folder = str(folder)
    made.perform_actual_validation()
    torch.save({**made.plain_network.state_dict(), "drawn": drawn}, folder / f"{rank}.pth")
