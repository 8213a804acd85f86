"""Along which axes the cases of a few-shot model are stored, and all of them turned that way."""

from typing import TYPE_CHECKING

from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset

from nnunet_xmodal.datasets.stored_axes import axes_noted, most_common
from nnunet_xmodal.datasets.turned_cases import TurnedCases

if TYPE_CHECKING:
    from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer as _Trainer
else:
    _Trainer = object


class AlongOneAxis(_Trainer):
    """A mixin before a trainer: notes in the model's plans how most cases are stored, and turns the others.

    Support and query are matched by where they lie in the patient, whatever way their slices run.
    """

    def note_axes(self) -> None:
        """Record along which axes most cases of the dataset are stored."""
        cases = sorted({case for part in self.do_split() for case in part})
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases)
        noted = {case: axes_noted(dataset.load_case(case)[-1]) for case in cases}
        usual = most_common({case: code for case, code in noted.items() if code is not None})
        if usual is not None:
            self.plans_manager.plans["xmodal"]["stored_axes"] = usual

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint, and turn cases as its training did: a validation by itself starts no training."""
        super().load_checkpoint(filename_or_checkpoint)
        axes = self.my_init_kwargs["plans"].get("xmodal", {}).get("stored_axes")
        if axes is not None:
            self.plans_manager.plans["xmodal"]["stored_axes"] = axes

    def along_one_axis(self, dataset: nnUNetBaseDataset) -> TurnedCases:
        """Return the cases of a dataset as if all ran the way that most do."""
        axes = self.plans_manager.plans["xmodal"].get("stored_axes")
        return TurnedCases(dataset, axes, self.plans_manager.transpose_forward)
