"""A learning rate that drops at given shares of the training, in nnU-Net's way of stepping by epoch."""

from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class MilestoneScheduler(LRScheduler):
    """The rate is the initial one, multiplied by a factor at each milestone.

    It follows from the epoch alone: a training that is continued needs nothing else.

    Args:
        initial_lr: before the first milestone.
        max_steps: epochs of the training.
        milestones: shares of it, e.g. 0.5, 0.7, 0.9.
        factor: of the rate.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        initial_lr: float,
        max_steps: int,
        milestones: Sequence[float],
        factor: float = 0.1,
    ):
        self.initial_lr, self.max_steps, self.milestones, self.factor = initial_lr, max_steps, milestones, factor
        super().__init__(optimizer)

    def step(self, current_step: int | None = None) -> None:
        """Sets the rate of an epoch, from 0."""
        passed = sum((current_step or 0) >= share * self.max_steps for share in self.milestones)
        self._last_lr = [self.initial_lr * self.factor**passed] * len(self.optimizer.param_groups)
        for group, rate in zip(self.optimizer.param_groups, self._last_lr):
            group["lr"] = rate
