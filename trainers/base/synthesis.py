"""What trainings of a pair of generators have in common; their checkpoints are what CMFF starts from."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetBaseDataset
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nnunet_xmodal.datasets.background_loading import Augmenter, in_background
from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.checkpointed import Checkpointed
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.prediction.building import building, refuse_stock_prediction
from nnunet_xmodal.tasks.synthesis.loader import UnlabelledLoader
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor
from nnunet_xmodal.tasks.synthesis.validation import validate_synthesis
from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES, without
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer


class SynthesisTrainer(OwnTaskTrainer):
    """A pair of generators on nnU-Net's plans, folds and patches, without a look at any label.

    Of nnU-Net's augmentation only what moves voxels is kept: intensities are what is to be learnt. Adam 1e-4 as in the
    paper, on nnU-Net's polynomial schedule. A step is the subclasses':

        def generators_step(self, a, b) -> dict: …   # "loss" and whatever else the log should tell

    A checkpoint's `network_weights` are a state of CMFFUNet, on the CPU, which `-pretrained_weights` takes for every
    trainer of that family: generators under `branches.`, the fusion branch untrained. Their own last layers have the
    names that nnU-Net skips, so that nothing is kept twice.

    Attributes:
        loader_class: of the training patches.
        checkpoint_activations: generators keep no activations for the backward pass but compute them again.
    """

    predicts = "images"
    score_name = "1 / (1 + mean absolute error)"
    predictor_class = SynthesisPredictor
    was_initialized: bool  # set by nnU-Net
    optimizers: dict[str, torch.optim.Optimizer]
    lr_schedulers: dict[str, PolyLRScheduler]
    generators: dict[str, nn.Module]  # by the stream that they read, as the step calls them
    loader_class: Callable[..., nnUNetDataLoader] = UnlabelledLoader
    initial_lr, weight_decay = 1e-4, 0.0
    oversample_foreground_percent = 0.0
    betas = (0.9, 0.999)
    checkpoint_activations = False

    @classmethod
    def network_from_plans(cls, *args: Any) -> nn.Module:
        """Build the pair of generators, and refuse stock prediction."""
        refuse_stock_prediction(cls.__name__, "images")
        return super().network_from_plans(*args)

    def initialize(self) -> None:
        """Build networks, optimisers and schedules.

        Not nnU-Net's, which wraps one network in torch.compile and DistributedDataParallel: here every generator is
        wrapped on its own, and `network` stays as it is.

        Raises:
            XModalError: for the second stage of a cascade.
        """
        if self.was_initialized:
            raise RuntimeError("the trainer is initialised already.")
        if self.is_cascaded:
            raise XModalError(
                f"{self.configuration_name} is the second stage of a cascade, whose input holds labels: pre-train on a "
                "configuration without a previous stage."
            )
        self._set_batch_size_and_oversample()
        self.num_input_channels = len(self.configuration_manager.normalization_schemes)
        heads = self.label_manager.num_segmentation_heads
        build = (self.plans_manager, self.configuration_manager, self.num_input_channels, heads, False)
        with building("trainer"):
            self.network = self.build_network_architecture(*build).to(self.device)
        if self.is_ddp and self.device.type == "cuda":
            self.network = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        self.generators = {name: self.prepared(branch) for name, branch in self.network.branches.items()}
        self.optimizers, self.lr_schedulers = {}, {}
        self.add_optimizer("generators", self.network)
        self.optimizer, self.lr_scheduler = self.optimizers["generators"], self.lr_schedulers["generators"]
        self._untrained_fusion = self._fusion_branch()
        self.dataset_class = infer_dataset_class(self.preprocessed_dataset_folder)
        self.was_initialized = True

    def prepared(self, network: nn.Module) -> nn.Module:
        """Return a network as a step calls it: checkpointed, compiled, distributed, as the case may be."""
        if self.checkpoint_activations:
            network = Checkpointed(network)
        if self._do_i_compile():
            network = torch.compile(network)
        return self.distributed(network)

    def distributed(self, network: nn.Module) -> nn.Module:
        """Return the network as all ranks train it together."""
        if not self.is_ddp:
            return network
        return DistributedDataParallel(network, device_ids=[self.local_rank] if self.device.type == "cuda" else None)

    def add_optimizer(self, name: str, *networks: nn.Module) -> None:
        """Add Adam and nnU-Net's schedule for the parameters of some networks."""
        parameters = [p for network in networks for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, self.initial_lr, self.betas)
        self.optimizers[name] = optimizer
        self.lr_schedulers[name] = PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    def _fusion_branch(self) -> dict[str, torch.Tensor]:
        """An untrained fusion branch with CBAM, a superset of what every network of the family has."""
        streams, heads = self.plans_manager.plans["xmodal"]["streams"], self.label_manager.num_segmentation_heads
        plan = UNetPlan.from_configuration(
            self.configuration_manager, self.num_input_channels, heads, deep_supervision=False, streams=streams
        )
        network = CMFFUNet(**plan.arguments, attention=CBAM)
        network.apply(network.initialize)
        return {name: value for name, value in network.state_dict().items() if name.startswith("fusion.")}

    @property
    def plain_network(self) -> GeneratorPair:
        """Return the pair of generators, which no wrapper is around."""
        return self.network

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> ComposeTransforms:
        """Return nnU-Net's transforms without those that change intensities."""
        return ComposeTransforms(without(super().get_training_transforms(*args, **kwargs), CHANGE_INTENSITIES))

    def get_dataloaders(self) -> tuple[Augmenter, Augmenter]:
        """Return the loaders of training and validation patches."""
        patch_size = self.configuration_manager.patch_size
        rotation, dummy_2d, loaded_patch_size, mirror_axes = (
            self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        masks = self.configuration_manager.use_mask_for_norm
        transforms = self.get_training_transforms(
            patch_size, rotation, None, mirror_axes, dummy_2d, use_mask_for_norm=masks
        )
        training, validation = self.get_tr_and_val_datasets()
        return in_background(
            self.make_loader(training, loaded_patch_size, transforms),
            UnlabelledLoader(
                validation,
                self.batch_size,
                patch_size,
                patch_size,
                self.label_manager,
                transforms=self.get_validation_transforms(None),
            ),
            self.device,
        )

    def make_loader(
        self, dataset: nnUNetBaseDataset, loaded_patch_size: Sequence[int], transforms: ComposeTransforms
    ) -> nnUNetDataLoader:
        """Return the loader of the training patches; `loaded_patch_size` leaves room to rotate."""
        patch_size = self.configuration_manager.patch_size
        return self.loader_class(
            dataset, self.batch_size, loaded_patch_size, patch_size, self.label_manager, transforms=transforms
        )

    def real_images(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B on the device: `(B, C, *spatial)` → `(B, C_A, *spatial)`, `(B, C_B, *spatial)`."""
        data = batch["data"].to(self.device, non_blocking=True)
        a, b = self.network.streams.values()
        return data[:, a], data[:, b]

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take a step of all optimisers; return the losses as scalars, "loss" among them."""
        raise NotImplementedError

    def train_step(self, batch: dict) -> dict:
        """Train on one batch; return the losses.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        losses = {name: value.item() for name, value in self.generators_step(*self.real_images(batch)).items()}
        self.end_step()
        self.check_losses(losses)
        return losses

    def on_train_epoch_start(self) -> None:
        """Begin an epoch with the rates that all schedules give it."""
        super().on_train_epoch_start()  # steps the generators' schedule
        for schedule in self.lr_schedulers.values():
            schedule.step(self.current_epoch)

    def validation_step(self, batch: dict) -> dict:
        """Return the mean absolute error of what is made, against the real images of the same patch."""
        data = batch["data"].to(self.device, non_blocking=True)
        with self.mixed_precision():
            error = (self.network(data).float() - data).abs().mean().item()
        return {"loss": error, "score": 1 / (1 + error)}

    def validate(self, dataset: nnUNetBaseDataset, cases: list[str]) -> dict[str, float]:
        """Synthesise every validation case; see `validate_synthesis` for what it writes."""
        predictor = self.make_predictor()
        return validate_synthesis(predictor, dataset, cases, self.output_folder, self.print_to_log_file, *self.ranks)

    def save_checkpoint(self, filename: str) -> None:
        """Write what `checkpoint` returns, by the first rank alone."""
        if self.local_rank == 0 and not self.disable_checkpointing:
            checkpoint = self.checkpoint()
            write_atomically(filename, lambda name: torch.save(checkpoint, name))

    def checkpoint(self) -> dict:
        """Return nnU-Net's checkpoint: a state of CMFFUNet for weights, every optimiser and schedule by name."""
        return {
            "network_weights": on_cpu(self.network.state_dict()) | self._untrained_fusion,
            "optimizer_state": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "lr_scheduler_state": {name: schedule.state_dict() for name, schedule in self.lr_schedulers.items()},
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint of this trainer.

        Raises:
            XModalError: if it is unreadable, of another trainer, or of a network with other streams.
        """
        self._check_checkpoint(filename_or_checkpoint)
        if not self.was_initialized:
            self.initialize()
        self.restore(read_checkpoint(filename_or_checkpoint))

    def restore(self, checkpoint: dict) -> None:
        """Restore what `checkpoint` returned."""
        weights = checkpoint["network_weights"]
        self.network.load_state_dict(weights)
        self._untrained_fusion = {name: value for name, value in weights.items() if name.startswith("fusion.")}
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(checkpoint["optimizer_state"][name])
            self.lr_schedulers[name].load_state_dict(checkpoint["lr_scheduler_state"][name])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.logger.load_checkpoint(checkpoint["logging"])
        self._best_ema = checkpoint["_best_ema"]
        self.current_epoch = checkpoint["current_epoch"]
        self.my_init_kwargs = checkpoint["init_args"]
        self.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]


def on_cpu(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return copies on the CPU, where nnU-Net's loading of pretrained weights finds them on any machine."""
    return {name: value.detach().cpu() for name, value in state.items()}
