"""What every trainer of this project adds to nnU-Net's."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.datasets.batch_check import check_batch, check_labels
from nnunet_xmodal.datasets.case_files import check_files
from nnunet_xmodal.datasets.presence import Missing, missing_of, named
from nnunet_xmodal.datasets.streams import Streams, as_one_input, describe_streams, distinct_channel_names, streams_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.sockets import keep_sockets_in_a_swept_folder
from nnunet_xmodal.files.stand_ins import stand_ins
from nnunet_xmodal.files.trusted_checkpoints import guard_pretrained_weights, only_weights, read_checkpoint
from nnunet_xmodal.files.trusted_plans import check_plans
from nnunet_xmodal.files.trusted_properties import guard_properties
from nnunet_xmodal.losses.finite import FiniteLosses
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.numerics import keep_full_precision_in_compiled_backward, unwrapped
from nnunet_xmodal.prediction.export import WRITERS
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.processes import tie_workers
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.trainers.base.adam_counters import counters_on_cpu
from nnunet_xmodal.trainers.base.names import needs_every_channel, without_length
from nnunet_xmodal.trainers.base.same_plans import changed_settings
from nnunet_xmodal.uncaught import end_in_a_sentence

SETTINGS = (
    "initial_lr", "weight_decay", "num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch",
    "oversample_foreground_percent", "save_every",
)  # fmt: skip
"""What nnU-Net's trainer sets for every object and a class here may say once."""


class XModalTrainer(nnUNetTrainer):
    """Streams from the plans, checked data, and checkpoints that survive being killed.

    Subclasses say what network they train:

        @classmethod
        def build_network(cls, plan: UNetPlan) -> nn.Module: ...

    Every other choice is a class attribute, because nnU-Net passes a trainer nothing but its name. Where a class has
    attributes of the names in SETTINGS, they take the place of what nnU-Net's `__init__` sets.
    """

    deep_supervision = True
    save_every = 1  # epochs; nnU-Net's 50 loses hours when a job is killed

    saves_probabilities = True  # with --npz
    takes_incomplete_cases = False
    one_input = False  # the network reads the channels of all streams together
    missing: Missing = MappingProxyType({})  # what the cases of this fold lack

    predictor_class: type[GuardedPredictor] = SegmentationPredictor  # what nnUNetXModal_predict predicts with

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        end_in_a_sentence()
        require_variables("nnUNet_preprocessed", "nnUNet_results")
        check_plans(plans, "the plans")
        guard_pretrained_weights()
        guard_properties()
        tie_workers()  # a training that is killed leaves no loaders behind
        keep_sockets_in_a_swept_folder()
        plans.setdefault("continue_training", False)
        self.set_up(plans, configuration, dataset_json)
        super().__init__(plans, configuration, fold, dataset_json, device)
        # of a network with two levels there is one output, and nnU-Net gives the last one no weight
        self.enable_deep_supervision = (
            self.deep_supervision and len(self.configuration_manager.pool_op_kernel_sizes) > 2
        )
        self._finite_losses = FiniteLosses()
        for name in SETTINGS:
            setattr(self, name, getattr(type(self), name, getattr(self, name)))

    def _do_i_compile(self) -> bool:
        keep_full_precision_in_compiled_backward()
        return super()._do_i_compile()

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Read what the trainer needs from the plans, and add to them what its models need, before anything is written.

        Subclasses extend this and leave `__init__` alone, whose five parameters nnU-Net wants to see.
        """
        # whatever reads only these plans (prediction from a folder or a zip, a cascade) sees the streams
        plans["xmodal"] = {
            **plans.get("xmodal", {}),
            "streams": streams_of(plans, _architecture(plans, configuration), dataset_json),
        }

    @classmethod
    def streams_read(cls, streams: Streams) -> Streams:
        """Return which channels the network reads, and which of them together, where the plans have these streams."""
        return as_one_input(streams) if cls.one_input else streams

    @classmethod
    def build_network(cls, plan: UNetPlan) -> nn.Module:
        """Build the untrained network; its static `initialize`, if it has one, is applied afterwards."""
        raise NotImplementedError

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """Build and initialise the network, as nnU-Net asks for it; see `network_from_plans`."""
        return cls.network_from_plans(
            plans_manager, configuration_manager, num_input_channels, num_output_channels, enable_deep_supervision
        )

    @classmethod
    def network_from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, inputs: int, outputs: int, deep_supervision: bool
    ) -> nn.Module:
        """Build and initialise the network: a U-Net unless a subclass builds something else.

        Args:
            inputs, outputs: channels and heads, as nnU-Net counts them.
        """
        streams = streams_of(plans.plans, configuration.configuration["architecture"], None)
        plan = UNetPlan.from_configuration(configuration, inputs, outputs, deep_supervision, streams)
        network = cls.build_network(plan)
        if hasattr(network, "initialize"):
            network.apply(network.initialize)
        return network

    @property
    def plain_network(self) -> nn.Module:
        """Return the network without the wrappers of torch.compile and DistributedDataParallel."""
        return unwrapped(self.network.module if self.is_ddp else self.network)

    def on_train_start(self) -> None:
        """Check the other folds' streams and log this one's before the first epoch."""
        self._check_streams_of_other_folds()
        with stand_ins(WRITERS, nnunet_trainer):
            super().on_train_start()
        if self.current_epoch >= self.num_epochs and self.local_rank == 0:
            # a training that was interrupted between its last checkpoint and the picture that follows it
            self.logger.plot_progress_png(self.output_folder)
        names = distinct_channel_names(self.dataset_json)
        self.print_to_log_file("Streams:", describe_streams(self.plans_manager.plans["xmodal"]["streams"], names))

    def network_input(self, dataset: nnUNetBaseDataset, case: str) -> torch.Tensor:
        """Return a preprocessed case as the network reads it, `(C, *spatial)`, with the previous stage of a cascade."""
        data, _, previous, _ = dataset.load_case(case)
        data = data[:]
        if self.is_cascaded:
            labels = self.label_manager.foreground_labels
            data = np.vstack((data, convert_labelmap_to_one_hot(previous[:], labels, output_dtype=data.dtype)))
        return torch.from_numpy(data)

    def get_tr_and_val_datasets(self) -> tuple[nnUNetBaseDataset, nnUNetBaseDataset]:
        """Return the datasets of training and validation, once their labels are checked.

        Raises:
            XModalError: for cases whose files are not there, and for cases that lack channels where the trainer needs
                all of them.
        """
        dataset_tr, dataset_val = super().get_tr_and_val_datasets()
        if self.local_rank == 0:
            check_files([dataset_tr, dataset_val], self.configuration_manager.previous_stage_name)
            check_labels([dataset_tr, dataset_val], self.label_manager)
        self.missing = missing_of([dataset_tr, dataset_val])
        if self.missing and not self.takes_incomplete_cases:
            case, channels = min(self.missing.items())
            lacking = named(channels, distinct_channel_names(self.dataset_json))
            raise XModalError(needs_every_channel(type(self).__name__, len(self.missing), case, lacking))
        return dataset_tr, dataset_val

    def train_step(self, batch: dict) -> dict:
        """Train on one batch, once it is checked; return the loss.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        result = super().train_step(batch)
        self.check_losses({"loss": float(result["loss"])})
        return result

    def check_losses(self, losses: Mapping[str, float]) -> None:
        """Stop a training whose losses, by name, are no numbers any more; see `FiniteLosses`."""
        self._finite_losses.check(losses, self.current_epoch, scaled=self.grad_scaler is not None)

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Switch deep supervision, where the trainer has any."""
        super().set_deep_supervision_enabled(enabled and self.enable_deep_supervision)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, with files that are written whole."""
        with stand_ins(WRITERS, nnunet_trainer, evaluate_predictions), self.validating():
            super().perform_actual_validation(save_probabilities)

    def validating(self) -> AbstractContextManager[None]:
        """Return what nnU-Net's validation runs within; see TrainsOnIncompleteCases."""
        return nullcontext()

    def save_checkpoint(self, filename: str) -> None:
        """Write a checkpoint that is whole or not there at all, by the first rank alone."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return super().save_checkpoint(filename)  # writes nothing
        write_atomically(filename, super().save_checkpoint)

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint of this trainer.

        Raises:
            XModalError: if it is unreadable, could run code, is of another trainer, of a network with other streams, or
                of plans with other images or layers.
        """
        self._check_checkpoint(filename_or_checkpoint)
        try:
            with only_weights():
                super().load_checkpoint(filename_or_checkpoint)
            counters_on_cpu(self.optimizer)
        except ValueError as error:
            if "parameter group" not in str(error):
                raise
            raise XModalError(
                f"{filename_or_checkpoint} predicts, but its optimiser is of a network with other parameters: train "
                "anew without --c."
            ) from error

    def _check_streams_of_other_folds(self) -> None:
        """
        Raises:
            XModalError: if folds that were trained with other streams would share this fold's plans.
        """
        other, plans = self.other_fold()
        theirs, ours = plans.get("xmodal", {}).get("streams"), self.plans_manager.plans["xmodal"]["streams"]
        if other is not None and theirs != ours:
            raise XModalError(
                f"{other} was trained with the streams {theirs}, but the plans or dataset.json now say "
                f"{ours}: restore the streams, or plan with another -overwrite_plans_name."
            )

    def other_fold(self) -> tuple[Path | None, dict]:
        """Return the folder of another fold with a checkpoint, and its plans; None and {} without."""
        model = Path(self.output_folder_base)
        others = [path for path in model.glob("fold_*/checkpoint_*.pth") if path.parent.name != f"fold_{self.fold}"]
        if not others or not is_complete(model / "plans.json"):  # one that is cut off is about to be written again
            return None, {}
        return others[0].parent, read_json(model / "plans.json")

    def _check_checkpoint(self, filename: str) -> None:
        checkpoint = read_checkpoint(filename, mmap=True, way_out="rename it to go on from an older one")
        try:
            trainer, their_plans = checkpoint["trainer_name"], checkpoint["init_args"]["plans"]
            theirs = their_plans.get("xmodal", {}).get("streams")
        except (KeyError, TypeError, AttributeError) as error:
            raise XModalError(
                f"{filename} is no readable checkpoint ({error!r}): rename it to go on from an older one."
            ) from error
        if without_length(trainer) != without_length(type(self).__name__):
            raise XModalError(f"{filename} was written by {trainer} and cannot be loaded by {type(self).__name__}.")
        ours = self.plans_manager.plans["xmodal"]["streams"]
        if theirs != ours:
            raise XModalError(
                f"{filename} was trained with the streams {theirs}, but the plans or dataset.json now say {ours}: "
                "restore the streams, or train anew without --c."
            )
        changed = changed_settings(their_plans, self.plans_manager.plans, self.configuration_name)
        if changed:
            raise XModalError(
                f"{filename} was trained by other plans ({'; '.join(changed)}): restore them, or train anew without "
                "--c."
            )


def _architecture(plans: dict, configuration: str) -> dict:
    """`architecture` of a configuration or of the one that it inherits from."""
    return PlansManager(plans).get_configuration(configuration).configuration["architecture"]
