"""Learning rates that follow from the epoch alone, in nnU-Net's way of stepping: resuming needs nothing else."""

from collections.abc import Callable, Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class EpochSchedule(LRScheduler):
    """Set every parameter group's learning rate to `rate(epoch)`, epochs counted from 0."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[int], float]) -> None:
        self.rate = rate
        super().__init__(optimizer)

    def step(self, current_step: int | None = None) -> None:
        """Set the rate of an epoch."""
        rate = self.rate(current_step or 0)
        self._last_lr = [rate] * len(self.optimizer.param_groups)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


def milestones(initial_lr: float, epochs: int, shares: Sequence[float], factor: float = 0.1) -> Callable[[int], float]:
    """Multiply the rate by a factor at given shares of the training, e.g. 0.5, 0.7, 0.9."""

    def rate(epoch: int) -> float:
        return initial_lr * factor ** sum(epoch >= share * epochs for share in shares)

    return rate


def decay(initial_lr: float, epochs: int, factor: float, steps: int = 100) -> Callable[[int], float]:
    """Multiply the rate by a factor `steps` times over the whole training, however long."""

    def rate(epoch: int) -> float:
        return initial_lr * factor ** (steps * epoch / epochs)

    return rate
