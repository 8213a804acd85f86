"""Self-reconstruction, the baseline of CMFT (Zhang et al., Cross-Modality Deep Feature Learning, 2021, "Ours_self")."""

from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.l1_synthesis import L1SynthesisTrainer


class nnUNetTrainerSelfReconstruction(L1SynthesisTrainer):
    """Two networks that put out what they read, "by reconstructing the input data" (Sec. 4.3).

    The paper prints no loss for it: E|S_A(A) − A| + E|S_B(B) − B|, the norm of its cycles.
    """

    makes = {"A": "A", "B": "B"}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> GeneratorPair:
        """Build the untrained pair of generators."""
        return GeneratorPair.of_reconstruction(plan.streams, **plan.architecture)
