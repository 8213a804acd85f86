"""Both final validations of a few-shot model: nnU-Net's, and the protocol of few-shot papers."""

from pathlib import Path

from torch import nn

from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.tasks.few_shot.support import cases_of_support
from nnunet_xmodal.tasks.few_shot.validation import add_protocol
from nnunet_xmodal.trainers.base.few_shot_axes import AlongOneAxis
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class TwoValidations(AlongOneAxis, OwnTaskTrainer):
    """Validates on labels as nnU-Net does, then by the protocol; on no case that the support is of."""

    saves_probabilities = True
    _not_validated: frozenset[str] = frozenset()
    network: nn.Module

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return nnU-Net's training and validation cases, during the final validation without those of the support."""
        training, validation = super().do_split()
        return training, [case for case in validation if case not in self._not_validated]

    def _cases_of_own_support(self) -> frozenset[str]:
        """Return the cases that show the support to a validation on training cases, unless there are no others."""
        training, validation = self.do_split()
        network: PrototypeNetwork = self.plain_network
        dataset = self.dataset_class(self.preprocessed_dataset_folder, training)
        shared = frozenset(training) & frozenset(validation)
        if not shared:
            return shared
        chosen = shared & cases_of_support(
            self.along_one_axis(dataset), self.label_manager, network.chunks, network.shots
        )
        if chosen < set(validation):
            self.print_to_log_file(f"Not validated, because the support is of them: {', '.join(sorted(chosen))}")
            return chosen
        self.print_to_log_file("The support is of all validation cases: what is measured is not about new scans.")
        return frozenset()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, where every slice is segmented and all labels compete; then the paper's protocol.

        `validation/summary.json` has the former as Dice and so on, the latter as protocol_Dice. Of fold `all`, whose
        cases are all trained on, those that the support is of are not measured.
        """
        wrapped = self.network
        try:
            self._not_validated = self._cases_of_own_support()
            for case in self._not_validated:  # of a validation from before, whose files nnU-Net would measure again
                for file in (Path(self.output_folder) / "validation").glob(f"{case}.*"):
                    file.unlink()
            if self.is_ddp:  # DistributedDataParallel shares buffers in its next pass, and a rank may have no case
                self.network = self.network.module
            XModalTrainer.perform_actual_validation(self, save_probabilities)  # labels, as any segmentation
            _, cases = self.do_split()
        finally:
            self.network, self._not_validated = wrapped, frozenset()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases)
        mean = add_protocol(
            self.plain_network.eval(),
            self.device,
            self.along_one_axis(dataset),
            self.label_manager,
            Path(self.output_folder) / "validation" / "summary.json",
            self.dataset_json["file_ending"],
            *self.ranks,
        )
        self.print_to_log_file(f"Mean protocol_Dice: {mean:.4f}")
        self.logger.log_summary("final_val/protocol_Dice", mean)
