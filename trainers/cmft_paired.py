"""CMFT that uses what the streams of a case have in common: they show the same patient, voxel by voxel.

The losses of the paper (see `cmft.py`) never compare a made image with the real one of the same case, and so find
inverted contrasts in some trainings. Where streams are aligned, as nnU-Net wants its channels, an L1 distance between
both tells the sign at no cost.
"""

import torch
from torch.nn import functional as F

from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.synthesis import SynthesisTrainer
from nnunet_xmodal.trainers.cmft import nnUNetTrainerCMFT


class nnUNetTrainerCMFTPaired(nnUNetTrainerCMFT):
    """CMFT with 10 times the L1 distance to the real images of the same case; the trainer for synthesis.

    Streams may have different numbers of channels. Registered streams are taken for granted: where they are not, the
    made images are blurred by as much.
    """

    paired_weight = 10.0


class nnUNetTrainerCMFTPairedL1(SynthesisTrainer):
    """The L1 distance alone: no discriminators, no cycles, less time; images are smoother where A does not tell B."""

    @classmethod
    def build_network(cls, plan: UNetPlan) -> GeneratorPair:
        """Build the untrained pair of generators."""
        return GeneratorPair.of_transition(plan.streams, **plan.architecture)

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step of both generators."""
        with self.mixed_precision():
            made_b, made_a = self.generators["A"](a), self.generators["B"](b)
        a_to_b, b_to_a = F.l1_loss(made_b.float(), b), F.l1_loss(made_a.float(), a)
        self.descend(a_to_b + b_to_a, self.optimizers["generators"])
        return {"loss": a_to_b + b_to_a, "A_to_B": a_to_b, "B_to_A": b_to_a}
