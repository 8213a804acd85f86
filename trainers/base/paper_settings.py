"""Length, batch size, learning rate and augmentation of a paper in the place of nnU-Net's."""

from collections.abc import Sequence

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform


class PaperSettings:
    """A mixin before a trainer.

    Attributes:
        epochs: of nnU-Net's 250 iterations.
        paper_batch_size: takes the place of the plans'.
        learning_rate: at the beginning.
    """

    epochs: int
    paper_batch_size: int
    learning_rate: float

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.epochs
        self.initial_lr = self.learning_rate

    def _set_batch_size_and_oversample(self):
        self.configuration_manager.configuration["batch_size"] = self.paper_batch_size
        super()._set_batch_size_and_oversample()


def without(transforms: ComposeTransforms, kinds: Sequence[type[BasicTransform]]) -> list[BasicTransform]:
    """nnU-Net's transforms without those of some kinds, whether or not they are applied at random."""
    return [transform for transform in transforms.transforms if not isinstance(_inner(transform), tuple(kinds))]


def _inner(transform: BasicTransform) -> BasicTransform:
    return transform.transform if isinstance(transform, RandomTransform) else transform
