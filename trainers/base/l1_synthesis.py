"""Generators that learn from the real images of the same case by the L1 distance alone."""

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from nnunet_xmodal.trainers.base.synthesis import SynthesisTrainer


class L1SynthesisTrainer(SynthesisTrainer):
    """E|G_A(A) − X| + E|G_B(B) − Y|, with the real images of the streams that the generators make for X and Y.

    Attributes:
        makes: stream that a generator reads → stream that it makes.
    """

    makes: Mapping[str, str]

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step of both generators; return the losses."""
        real = {"A": a, "B": b}
        with self.mixed_precision():
            made = {source: self.generators[source](real[source]) for source in real}
        losses = {
            f"{source}_to_{target}": F.l1_loss(made[source].float(), real[target])
            for source, target in self.makes.items()
        }
        loss = sum(losses.values())
        self.descend(loss, self.optimizers["generators"])
        return {"loss": loss, **losses}
