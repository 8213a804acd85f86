"""A learning rate that falls by a constant factor per share of the training, in nnU-Net's way of stepping by epoch."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


class DecayScheduler(LRScheduler):
    """initial_lr · factor^(steps · epoch / max_steps): `steps` times the factor over the whole training, however long.

    It follows from the epoch alone: a training that is continued needs nothing else.

    Args:
        initial_lr: of the first epoch.
        max_steps: epochs of the training.
        factor: of one decay.
        steps: decays over the whole training.
    """

    def __init__(self, optimizer: Optimizer, initial_lr: float, max_steps: int, factor: float, steps: int = 100):
        self.initial_lr, self.max_steps, self.factor, self.steps = initial_lr, max_steps, factor, steps
        super().__init__(optimizer)

    def step(self, current_step: int | None = None) -> None:
        """Sets the rate of an epoch, from 0."""
        rate = self.initial_lr * self.factor ** (self.steps * (current_step or 0) / self.max_steps)
        self._last_lr = [rate] * len(self.optimizer.param_groups)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
