"""Steps that are not nnU-Net's, with what nnU-Net's have: mixed precision on a GPU, clipped gradients."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object  # a mixin, whose methods nnU-Net's trainer has behind it


class OwnSteps(_Trainer):
    """A mixin before a trainer whose `train_step` calls `descend` once or several times and then `end_step`.

    Attributes:
        largest_gradient: norm that gradients are clipped to, None for as they come.
    """

    largest_gradient: float | None = 12.0

    def mixed_precision(self) -> AbstractContextManager:
        """Return the context of a forward pass: mixed precision on a GPU, as in nnU-Net."""
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

    def descend(self, loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take one step: backward pass, gradients clipped to nnU-Net's norm of 12 unless the trainer has another.

        Call it where parameters that must not learn are still frozen.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        optimizer.zero_grad(set_to_none=True)
        if self.grad_scaler is None:
            loss.backward()
            self._clip(parameters)
            optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.unscale_(optimizer)
            self._clip(parameters)
            self.grad_scaler.step(optimizer)

    def _clip(self, parameters: list[nn.Parameter]) -> None:
        if self.largest_gradient is not None:
            nn.utils.clip_grad_norm_(parameters, self.largest_gradient)

    def end_step(self) -> None:
        """Update the scale of the gradients after the last `descend`: one scale serves all optimisers of a step."""
        if self.grad_scaler is not None:
            self.grad_scaler.update()
