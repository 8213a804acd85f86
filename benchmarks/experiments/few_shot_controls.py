"""Trainers that ask where the lead of a few-shot method comes from; in `few_shot_trial.py` by name, in no package."""

from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer
from nnunet_xmodal.trainers.few_shot import nnUNetTrainerCRTPLite


class nnUNetTrainerAdamLocalLite(FewShotTrainer):
    """ALPNet's network, trained as CRTPNet: Adam, the query alone transformed, no cross-reference.

    What CRTPNet is ahead of it by is the cross-reference's, what it is ahead of ALPNet by is the training's.
    """

    backbone, weights = nnUNetTrainerCRTPLite.backbone, nnUNetTrainerCRTPLite.weights
    make_backbone = nnUNetTrainerCRTPLite.make_backbone
