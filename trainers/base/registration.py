"""What trainings of registration networks have in common: perturbed pairs in, six numbers out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.datasets.background_loading import Augmenter, started
from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.labels import organ_values
from nnunet_xmodal.geometry.surface import sre
from nnunet_xmodal.losses.surface_displacement import SurfaceDisplacement
from nnunet_xmodal.networks.attention_reg import AttentionReg
from nnunet_xmodal.prediction.building import refuse_stock_prediction
from nnunet_xmodal.tasks.registration.by_network import ByNetwork, network_input
from nnunet_xmodal.tasks.registration.loader import FixedStartsLoader, RegistrationLoader
from nnunet_xmodal.tasks.registration.method import RegistrationMethod
from nnunet_xmodal.tasks.registration.perturbations import random_perturbations
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.registration.training_cases import RegistrationCases
from nnunet_xmodal.tasks.registration.turning_point import matrix_about, turning_point
from nnunet_xmodal.tasks.registration.validation import Starts, validate_registration
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.schedule import StepSchedule, one_cycle


class RegistrationTrainer(OwnTaskTrainer):
    """Learns to undo rigid perturbations of aligned pairs, on plans of RegistrationPlanner (Song et al., 2021).

    Every step moves the moving images of a batch by fresh perturbations p, resamples them once onto the grid, out of
    what lies around it as well, and scales both images together to [0, 1]; the network's six numbers shall be those of
    M(p)⁻¹ (see `geometry.rigid_transform`), measured by how far they leave the organ's surface from its place
    (`losses.surface_displacement`). Adam, whose rate rises to 2e-3 and falls to nothing; 300 epochs of 66 steps of 8
    cases, each as long as one through the paper's 528 cases. Validation is always from the same starts.

    Attributes:
        attention: block of the network, from its channels; None for none.
        sre_range: of surface registration errors in mm from which perturbations are drawn.
        fixed_is_label: the network reads the organ's label in the place of the fixed image.
        turns_about_corner: starts and the network's six numbers turn about the grid's corner, not its centre; see
            `tasks.registration.turning_point`.
        jitter: mm, by which the grid is shifted at most along each axis in training.
        starts_in_training: of every validation case.
        starts_at_the_end: likewise, of the final validation.
        exact_starts, exact_count: SRE in mm of further starts in the final validation, and how many of each.
    """

    predicts = "transforms"
    score_name = "1 / (1 + SRE in mm)"
    planner, plans_name = "RegistrationPlanner", "nnUNetRegistrationPlans"
    predictor_class = RegistrationPredictor
    attention: Callable[[int], nn.Module] | None = None
    sre_range = (0.0, 20.0)
    fixed_is_label = False
    turns_about_corner = False
    jitter = 10.0
    initial_lr, weight_decay = 2e-3, 0.0
    num_epochs, num_iterations_per_epoch = 300, 66
    num_val_iterations_per_epoch: int  # set by nnU-Net
    starts_in_training = 5
    starts_at_the_end = 40
    exact_starts: tuple[float, ...] = (8.0, 16.0)
    exact_count = 20

    @classmethod
    def network_from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, inputs: int, outputs: int, deep_supervision: bool
    ) -> nn.Module:
        """Build the network that reads the grid of the plans.

        Raises:
            XModalError: from stock prediction, for other plans than RegistrationPlanner's, and for other than two
                channels.
        """
        refuse_stock_prediction(cls.__name__, "transforms")
        arguments = cls.own_arguments(plans, configuration, "grid", "reads a fixed grid")
        if inputs != AttentionReg.input_channels:
            raise XModalError(
                f"{cls.__name__} reads two channels, the fixed image and then the moving one, and the dataset has "
                f"{inputs}: make a dataset of these two."
            )
        return cls.network_on_grid(arguments["grid"])

    @classmethod
    def network_on_grid(cls, grid: Sequence[int]) -> nn.Module:
        """Build a network of images `(B, 2, *grid)` and spacing → `(B, 6)` in mm and degrees."""
        return AttentionReg(grid, cls.attention)

    def _build_loss(self) -> nn.Module:
        return SurfaceDisplacement()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, StepSchedule]:
        """Return the optimiser and the schedule of its learning rate, which changes with every step."""
        optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        return optimizer, StepSchedule(optimizer, self.rate(), self.num_iterations_per_epoch)

    def rate(self) -> Callable[[float], float]:
        """Return the learning rate of an epoch and its fractions."""
        return one_cycle(self.initial_lr, self.num_epochs)

    def on_train_start(self) -> None:
        """Log which image is fixed and which moves before the first epoch."""
        super().on_train_start()
        fixed, moving = channel_names_of(self.dataset_json)
        self.print_to_log_file(f"Fixed image: {'label' if self.fixed_is_label else fixed}, moving image: {moving}")

    def cases_on_grid(self, dataset: nnUNetBaseDataset) -> RegistrationCases:
        """Return the cases of a dataset, cut to the grid of the plans."""
        grid = self.configuration_manager.configuration["architecture"]["arch_kwargs"]["grid"]
        farthest = max(self.sre_range[1], *self.exact_starts)
        return RegistrationCases(
            dataset, self.plans_manager.transpose_forward, grid, organ_values(self.dataset_json), farthest
        )

    def get_dataloaders(self) -> tuple[Augmenter, FixedStartsLoader]:
        """Return random cases in the background; the validation's few grids stay in memory."""
        training, validation = map(self.cases_on_grid, self.get_tr_and_val_datasets())
        fixed_starts = FixedStartsLoader(
            validation, self.batch_size, self.sre_range, self.starts_in_training, self.turns_about_corner
        )
        self.num_val_iterations_per_epoch = min(self.num_val_iterations_per_epoch, len(fixed_starts))
        return started(RegistrationLoader(training, self.batch_size, self.jitter), self.device), fixed_starts

    def on_device(self, batch: dict) -> dict:
        """Return the batch with its tensors on the device."""
        return {
            name: value.to(self.device, non_blocking=True) if isinstance(value, torch.Tensor) else value
            for name, value in batch.items()
        }

    def turning_point(self, batch: dict) -> torch.Tensor:
        """Return the points about which perturbations and outputs turn, `(B, 3)` in mm from the grids' centres."""
        return turning_point(batch["data"].shape[2:], batch["spacing"], self.turns_about_corner)

    def network_input(self, batch: dict, base: torch.Tensor) -> torch.Tensor:
        """Return a batch as the network reads it, `(B, 2, D, H, W)`, its moving images moved by base `(B, 4, 4)`."""
        fixed = batch["label"] if self.fixed_is_label else batch["data"]
        return network_input(fixed, batch["moving"], base, batch["spacing"], self.fixed_is_label)

    def loss_of(self, output: torch.Tensor, base: torch.Tensor, batch: dict) -> torch.Tensor:
        """Return the loss of six numbers `(B, 6)` that shall undo base `(B, 4, 4)`."""
        found = matrix_about(output, self.turning_point(batch)) @ base
        return self.loss(found, batch["points"], batch["exists"])

    def train_step(self, batch: dict) -> dict:
        """Train on one batch; return the loss.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        check_batch(batch | {"data": batch["moving"]})
        point = self.turning_point(batch)
        # before the batch moves: a GPU would have two thousand small things to do, and be waited for
        perturbation = random_perturbations(batch["points"] - point[:, None], batch["exists"], self.sre_range)
        base = matrix_about(perturbation, point).to(self.device, non_blocking=True)
        batch = self.on_device(batch)
        x = self.network_input(batch, base)
        with self.mixed_precision():
            output = self.network(x, batch["spacing"])  # B 6
        loss = self.loss_of(output.float(), base, batch)
        self.descend(loss, self.optimizer)
        self.end_step()
        self.lr_scheduler.advance()
        losses = {"loss": loss.item()}
        self.check_losses(losses)
        return losses

    def on_validation_epoch_start(self) -> None:
        """Begin the validation anew, from the same starts."""
        super().on_validation_epoch_start()
        self.dataloader_val.restart()

    def validation_step(self, batch: dict) -> dict:
        """Score the batch's own perturbations, by the network without wrappers: ranks need not take equal steps."""
        batch = self.on_device(batch)
        base = matrix_about(batch["perturbation"], self.turning_point(batch))
        x = self.network_input(batch, base)
        with self.mixed_precision():
            output = self.plain_network(x, batch["spacing"]).float()  # B 6
        found = matrix_about(output, self.turning_point(batch)) @ base
        error = sre(found, batch["points"], batch["exists"]).mean().item()
        return {"loss": self.loss_of(output, base, batch).item(), "score": 1 / (1 + error), "sre": error}

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log score, loss and SRE over all ranks."""
        super().on_validation_epoch_end(val_outputs)
        self.print_to_log_file(f"SRE: {self.mean_over_ranks([output['sre'] for output in val_outputs]):.3f} mm")

    def validate(self, dataset: nnUNetBaseDataset, cases: list[str]) -> dict[str, float]:
        """Register from more starts, on the grid; see `validate_registration` for what it writes."""
        starts = Starts(
            self.sre_range, self.starts_at_the_end, self.exact_starts, self.exact_count, self.turns_about_corner
        )
        return validate_registration(
            self.method(),
            self.cases_on_grid(dataset),
            self.dataset_json,
            Path(self.output_folder),
            starts,
            self.print_to_log_file,
            *self.ranks,
        )

    def method(self) -> RegistrationMethod:
        """Return the network as it is now, as a registration like any other."""
        return ByNetwork(
            self.plain_network.eval(),
            self.device,
            self.fixed_is_label,
            self.configuration_manager.batch_size,
            self.turns_about_corner,
        )
