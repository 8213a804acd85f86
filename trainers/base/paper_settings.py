"""The batch size of a paper in the place of the plans'."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer as _Trainer
else:
    _Trainer = object  # a mixin, whose methods nnU-Net's trainer has behind it


class PaperSettings(_Trainer):
    """A mixin before a trainer.

    Attributes:
        paper_batch_size: samples per step.
    """

    paper_batch_size: int

    def _set_batch_size_and_oversample(self) -> None:
        self.configuration_manager.configuration["batch_size"] = self.paper_batch_size
        super()._set_batch_size_and_oversample()
