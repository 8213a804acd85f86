"""Steps of CMFT on two ranks."""

import pickle
from pathlib import Path

import pytest
import torch

from nnunet_xmodal import trainers


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["nnUNetTrainerCMFT", "nnUNetTrainerCMFTCheckpointed", "nnUNetTrainerSelfReconstruction"]
)
def test_three_steps_leave_both_ranks_with_the_same_networks(
    make_trainer, make_plans, nnunet_folders, on_two_ranks, name
):
    plans = make_plans(channels=2, batch_size=4)
    trainer = make_trainer(name, plans)
    start = trainer.checkpoint()
    torch.save(start, nnunet_folders / "start.pth")
    task = {"name": name, "plans": plans, "dataset_json": trainer.dataset_json}
    (nnunet_folders / "task.pkl").write_bytes(pickle.dumps(task))
    on_two_ranks(__file__, nnunet_folders)
    first, second = (torch.load(nnunet_folders / f"{rank}.pth", weights_only=False) for rank in range(2))
    for kept in ("network_weights", "discriminator_weights"):
        for parameter, value in first.get(kept, {}).items():
            assert torch.equal(value, second[kept][parameter]), parameter
    learnt = [f"branches.{n}" for n, p in trainer.network.branches.named_parameters() if p.requires_grad]
    assert all(not torch.equal(first["network_weights"][n], start["network_weights"][n]) for n in learnt)


def train_on_rank(rank: int, folder: Path) -> None:
    task = pickle.loads((folder / "task.pkl").read_bytes())
    plans = task["plans"] | {"continue_training": False}
    (configuration,) = plans["configurations"]
    trainer = getattr(trainers, task["name"])(plans, configuration, 0, task["dataset_json"], torch.device("cpu"))
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    trainer.is_ddp, trainer.local_rank = True, rank  # nnU-Net would insist on a GPU
    trainer.initialize()
    trainer.restore(torch.load(folder / "start.pth", weights_only=False))
    assert trainer.batch_size == 2
    for step in range(3):
        data = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(10 * step + rank))
        trainer.train_step({"data": data, "keys": ["a", "b"]})
    torch.save(trainer.checkpoint(), folder / f"{rank}.pth")
