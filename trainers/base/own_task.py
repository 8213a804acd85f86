"""The base of trainings whose task is not nnU-Net's: images, transforms, few-shot scores."""

import os
from time import time
from typing import Any

import numpy as np
import torch.distributed as dist
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.collate_outputs import collate_outputs
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.building import building
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.trainers.base.own_steps import OwnSteps
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class OwnTaskTrainer(OwnSteps, XModalTrainer):
    """Steps, scores and a final validation of its own, with one output and without labels' probabilities.

    `train_step` and `validation_step` are the subclass's. The latter returns a "loss" and a "score", higher is better,
    which takes the place of nnU-Net's pseudo Dice: its moving average decides about `checkpoint_best.pth`, and
    nnU-Net's logger, which knows no other names, plots it as such in `progress.png`. The final validation calls

        def validate(self, dataset, cases) -> dict[str, float]: …   # writes its files, returns means for the log

    Attributes:
        score_name: what the score is, for the log.
        predicts: what the model predicts, for messages: "images", "transforms".
        planner, plans_name: of the plans that the trainer needs, where it needs plans of its own.
    """

    saves_probabilities = False
    deep_supervision = False
    _best_ema: float | None  # set by nnU-Net
    score_name: str
    predicts: str
    planner: str
    plans_name: str

    @classmethod
    def own_arguments(cls, plans: PlansManager, configuration: ConfigurationManager, name: str, needs: str) -> dict:
        """Return the network's arguments that a planner of ours has written, `name` among them.

        Args:
            needs: what the trainer does with it, "reads a fixed grid".

        Raises:
            XModalError: for plans of another planner.
        """
        arguments = configuration.configuration["architecture"]["arch_kwargs"]
        if name not in arguments:
            raise XModalError(
                f"{cls.__name__} {needs}, which the plans {plans.plans_name} do not have: plan with "
                f"nnUNetXModal_plan_and_preprocess -pl {cls.planner} and train with -p {cls.plans_name}."
            )
        return arguments

    @property
    def ranks(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes that train together."""
        return (self.local_rank, dist.get_world_size()) if self.is_ddp else (0, 1)

    def initialize(self) -> None:
        """Build network, loss and optimiser as nnU-Net does, for a training."""
        with building("trainer"):
            super().initialize()

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """Do nothing: the network has one output."""

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log nnU-Net's numbers, and what a step returns beside its "loss"."""
        super().on_train_epoch_end(train_outputs)
        parts = {name: np.mean([losses[name] for losses in train_outputs]) for name in train_outputs[0]}
        if len(parts) > 1:
            self.print_to_log_file("losses: " + ", ".join(f"{name} {value:.5f}" for name, value in parts.items()))

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log mean score and loss over all ranks."""
        outputs = collate_outputs(val_outputs)
        score, loss = (self.mean_over_ranks(outputs[name]) for name in ("score", "loss"))
        self.logger.log("mean_fg_dice", score, self.current_epoch)
        self.logger.log("dice_per_class_or_region", [score], self.current_epoch)
        self.logger.log("val_losses", loss, self.current_epoch)

    def mean_over_ranks(self, values: list) -> float:
        """Return the mean of every rank's mean."""
        mean = np.mean(values)
        if self.is_ddp:
            means: list[Any] = [None] * dist.get_world_size()
            dist.all_gather_object(means, mean)
            mean = np.mean(means)
        return float(mean)

    def on_epoch_end(self) -> None:
        """End the epoch as nnU-Net 2.8.1 does, with another name for what decides about the best checkpoint."""
        epoch = self.current_epoch
        self.logger.log("epoch_end_timestamps", time(), epoch)
        latest = {
            name: self.logger.get_value(name, step=-1)
            for name in ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "epoch_start_timestamps")
        }
        self.print_to_log_file("train_loss", np.round(latest["train_losses"], decimals=4))
        self.print_to_log_file("val_loss", np.round(latest["val_losses"], decimals=4))
        self.print_to_log_file(self.score_name, np.round(latest["mean_fg_dice"], decimals=4))
        self.print_to_log_file(f"Epoch time: {time() - latest['epoch_start_timestamps']:.2f} s")
        if (epoch + 1) % self.save_every == 0 and epoch != self.num_epochs - 1:
            self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_latest.pth"))
        if self._best_ema is None or latest["ema_fg_dice"] > self._best_ema:
            self._best_ema = latest["ema_fg_dice"]
            self.print_to_log_file(f"New best moving average: {np.round(self._best_ema, decimals=4)}")
            self.save_checkpoint(os.path.join(self.output_folder, "checkpoint_best.pth"))
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
        self.current_epoch += 1

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate every case of the fold and log the means; see `validate`."""
        if save_probabilities:
            self.print_to_log_file(f"There are no probabilities to save: this model predicts {self.predicts}.")
        _, cases = self.do_split()
        means = self.validate(self.dataset_class(self.preprocessed_dataset_folder, cases), cases)
        for name, value in means.items():
            self.print_to_log_file(f"Mean {name}: {value:.4f}")
            self.logger.log_summary(f"final_val/{name}", value)
        self.print_to_log_file("Validation complete")

    def make_predictor(self) -> GuardedPredictor:
        """Return the predictor of such models, with the network as it is now."""
        predictor = self.predictor_class(device=self.device, allow_tqdm=False)
        predictor.manual_initialization(
            self.plain_network.eval(),
            self.plans_manager,
            self.configuration_manager,
            None,
            self.dataset_json,
            type(self).__name__,
            self.inference_allowed_mirroring_axes,
        )
        return predictor

    def validate(self, dataset: nnUNetBaseDataset, cases: list[str]) -> dict[str, float]:
        """Predict and measure the validation cases; return the mean of every metric.

        Args:
            dataset: nnU-Net's, of the cases as they were preprocessed.
        """
        raise NotImplementedError
