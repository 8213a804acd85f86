"""Learning rates that follow from the epoch alone, in nnU-Net's way of stepping: resuming needs nothing else."""

from collections.abc import Callable, Sequence
from math import cos, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class EpochSchedule(LRScheduler):
    """Set every parameter group's learning rate to `rate(epoch)`, epochs counted from 0."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[float], float]) -> None:
        self.rate = rate
        super().__init__(optimizer)

    def step(self, current_step: int | None = None) -> None:
        """Set the rate of an epoch."""
        self._set(self.rate(current_step or 0))

    def _set(self, rate: float) -> None:
        self._last_lr = [rate] * len(self.optimizer.param_groups)
        for group in self.optimizer.param_groups:
            group["lr"] = rate


class StepSchedule(EpochSchedule):
    """Set the rate of every step: `rate` takes fractions of an epoch, which `step` begins and `advance` walks."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[float], float], steps: int) -> None:
        self.steps, self.taken = steps, 0
        super().__init__(optimizer, rate)

    def step(self, current_step: int | None = None) -> None:
        """Set the rate of an epoch's first step."""
        self.epoch, self.taken = current_step or 0, 0
        super().step(current_step)

    def advance(self) -> None:
        """Set the rate of the next step of the epoch."""
        self.taken += 1
        self._set(self.rate(self.epoch + self.taken / self.steps))


def one_cycle(largest: float, epochs: int, rise: float = 0.15, first: float = 0.04) -> Callable[[float], float]:
    """Raise the rate in a line from a share of the largest one and let it fall along a cosine to nothing.

    Args:
        largest: rate, at the end of the rise.
        rise: share of the training.
        first: share of the largest rate with which the training begins.
    """

    def rate(epoch: float) -> float:
        done = epoch / epochs
        if done < rise:
            return largest * (first + (1 - first) * done / rise)
        return largest * (1 + cos(pi * (done - rise) / (1 - rise))) / 2

    return rate


def milestones(
    initial_lr: float, epochs: int, shares: Sequence[float], factor: float = 0.1
) -> Callable[[float], float]:
    """Multiply the rate by a factor at given shares of the training, e.g. 0.5, 0.7, 0.9."""

    def rate(epoch: float) -> float:
        return initial_lr * factor ** sum(epoch >= share * epochs for share in shares)

    return rate


def decay(initial_lr: float, epochs: int, factor: float, steps: int = 100) -> Callable[[float], float]:
    """Multiply the rate by a factor `steps` times over the whole training, however long."""

    def rate(epoch: float) -> float:
        return initial_lr * factor ** (steps * epoch / epochs)

    return rate
