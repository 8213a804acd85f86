"""Self-reconstruction, the baseline of CMFT (Zhang et al., Cross-Modality Deep Feature Learning, 2021, "Ours_self")."""

import torch
from torch.nn import functional as F

from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.synthesis import SynthesisTrainer


class nnUNetTrainerSelfReconstruction(SynthesisTrainer):
    """Two networks that put out what they read, "by reconstructing the input data" (Sec. 4.3).

    The paper prints no loss for it: E|S_A(A) − A| + E|S_B(B) − B|, the norm of its cycles.
    """

    @classmethod
    def build_network(cls, plan: UNetPlan) -> GeneratorPair:
        """Build the untrained pair of generators."""
        return GeneratorPair.of_reconstruction(plan.streams, **plan.architecture)

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step of both generators; return the losses."""
        with self.mixed_precision():
            made_a, made_b = self.generators["A"](a), self.generators["B"](b)
        loss_a, loss_b = F.l1_loss(made_a.float(), a), F.l1_loss(made_b.float(), b)
        self.descend(loss_a + loss_b, self.optimizers["generators"])
        return {"loss": loss_a + loss_b, "A_to_A": loss_a, "B_to_B": loss_b}
