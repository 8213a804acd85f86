"""CMFT that uses what the streams of a case have in common: they show the same patient, voxel by voxel.

The losses of the paper (see `cmft.py`) never compare a made image with the real one of the same case, and so find
inverted contrasts in some trainings. Where streams are aligned, as nnU-Net wants its channels, an L1 distance between
both tells the sign at no cost.
"""

from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.l1_synthesis import L1SynthesisTrainer
from nnunet_xmodal.trainers.cmft import nnUNetTrainerCMFT


class nnUNetTrainerCMFTPaired(nnUNetTrainerCMFT):
    """CMFT with 10 times the L1 distance to the real images of the same case; the trainer for synthesis.

    Streams may have different numbers of channels. Registered streams are taken for granted: where they are not, the
    made images are blurred by as much.
    """

    paired_weight = 10.0


class nnUNetTrainerCMFTPairedL1(L1SynthesisTrainer):
    """The L1 distance alone: no discriminators, no cycles, less time; images are smoother where A does not tell B."""

    makes = {"A": "B", "B": "A"}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> GeneratorPair:
        """Build the untrained pair of generators."""
        return GeneratorPair.of_transition(plan.streams, **plan.architecture)
