"""CMFF and its ablations (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.2 and Table 2)."""

from typing import Any

import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal.datasets.streams import Streams
from nnunet_xmodal.losses.sum_over_branches import SumOverBranches
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.branches_unet import BranchesUNet
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class nnUNetTrainerCMFF(XModalTrainer):
    """The proposal on exactly two streams, with nnU-Net's loss for all three outputs and nnU-Net's optimiser.

    `-pretrained_weights` takes the weights that branches start from; without them all start from random.

    Attributes:
        identity, per_class_masks, detach_masks: readings of the mask-guided attention block, see there.
    """

    identity = True
    per_class_masks = False
    detach_masks = False

    @classmethod
    def guidance(cls) -> MaskGuidedAttention | None:
        """Return the mask-guided attention block, None for none."""
        return MaskGuidedAttention(cls.identity, cls.per_class_masks, cls.detach_masks)

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what CMFFUNet takes besides the plan."""
        return {"guidance": cls.guidance()}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> nn.Module:
        """Build the untrained network of the plan."""
        return CMFFUNet(**plan.arguments, **cls.blocks(plan))

    @classmethod
    def network_from_plans(cls, plans: PlansManager, *args: Any) -> nn.Module:
        """Build the network, which learns from the plans whether labels are regions."""
        network = super().network_from_plans(plans, *args)
        network.regions = plans.plans["xmodal"].get("regions", False)
        return network

    def initialize(self) -> None:
        """Build network, loss and optimiser, and note the weights that training starts from."""
        # a network predicts masks, and has nothing but the plans to know by whether labels exclude each other
        self.plans_manager.plans["xmodal"]["regions"] = self.label_manager.has_regions
        super().initialize()
        self._random_weights = self._some_weights()

    def on_train_start(self) -> None:
        """Log which weights the branches start from."""
        super().on_train_start()
        if self.current_epoch == 0:
            self.print_to_log_file(
                "The branches start from random weights: give -pretrained_weights to start from others."
                if torch.equal(self._random_weights, self._some_weights())
                else "The branches start from pretrained weights."
            )

    def _some_weights(self) -> torch.Tensor:
        """A copy of the first convolution of a branch."""
        return next(self.plain_network.branches.parameters()).detach().cpu().clone()

    def _build_loss(self) -> nn.Module:
        return SumOverBranches(super()._build_loss())


class nnUNetTrainerCMFFDice(nnUNetTrainerCMFF):
    """Eq. 8: soft Dice alone, up to the constant 1."""

    def _build_loss(self) -> nn.Module:
        loss = super()._build_loss()
        of_an_output = loss.segmentation_loss
        if isinstance(of_an_output, DeepSupervisionWrapper):
            of_an_output = of_an_output.loss
        of_an_output.weight_ce = 0
        return loss


class nnUNetTrainerCMFFNoMask(nnUNetTrainerCMFF):
    """The fusion branch without mask guidance, "Ours w/o MG"."""

    @classmethod
    def guidance(cls) -> None:
        """Return no block."""
        return None


class nnUNetTrainerCMFFCBAM(nnUNetTrainerCMFF):
    """CBAM in the place of mask guidance, "Ours w CA"."""

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return CBAM as the attention block."""
        return {"attention": CBAM}


class nnUNetTrainerCMFFMean(nnUNetTrainerCMFF):
    """The mean of both branches' probabilities at prediction, "S_A + S_B"; they are trained side by side.

    Attributes:
        branches: which there are, "A", "B" or "AB".
    """

    branches = "AB"

    @classmethod
    def streams_read(cls, streams: Streams) -> Streams:
        """Return the streams of the branches."""
        return [streams["AB".index(branch)] for branch in cls.branches]

    @classmethod
    def build_network(cls, plan: UNetPlan) -> BranchesUNet:
        """Build the untrained network of the plan."""
        return BranchesUNet(**plan.arguments, branches=cls.branches)


class nnUNetTrainerCMFFStreamA(nnUNetTrainerCMFFMean):
    """S_A alone; the other stream is loaded, for equal patches, and ignored."""

    branches = "A"


class nnUNetTrainerCMFFStreamB(nnUNetTrainerCMFFMean):
    """S_B alone."""

    branches = "B"
