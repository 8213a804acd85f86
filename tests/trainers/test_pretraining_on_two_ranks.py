"""Steps of CMFT on two ranks."""

from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


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
    on_two_ranks(__file__, nnunet_folders, trainer)
    first, second = (torch.load(nnunet_folders / f"{rank}.pth", weights_only=False) for rank in range(2))
    for kept in ("network_weights", "discriminator_weights"):
        for parameter, value in first.get(kept, {}).items():
            assert torch.equal(value, second[kept][parameter]), parameter
    learnt = [f"branches.{n}" for n, p in trainer.network.branches.named_parameters() if p.requires_grad]
    assert all(not torch.equal(first["network_weights"][n], start["network_weights"][n]) for n in learnt)


def train_on_rank(rank: int, folder: Path, trainer: nnUNetTrainer) -> None:
    trainer.is_ddp, trainer.local_rank = True, rank  # nnU-Net would insist on a GPU
    trainer.initialize()
    trainer.restore(torch.load(folder / "start.pth", weights_only=False))
    assert trainer.batch_size == 2
    for step in range(3):
        data = torch.randn(2, 2, 16, 16, generator=torch.Generator().manual_seed(10 * step + rank))
        trainer.train_step({"data": data, "keys": ["a", "b"]})
    torch.save(trainer.checkpoint(), folder / f"{rank}.pth")
