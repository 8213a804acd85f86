"""From images to an image: what trainings of any regression have in common."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.datasets.background_loading import Augmenter, in_background
from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.labels import inside
from nnunet_xmodal.files.trusted_names import locate
from nnunet_xmodal.losses.dipole_inversion import mean_inside
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet, SkipAttention
from nnunet_xmodal.networks.qsm_unet import QSMUNet
from nnunet_xmodal.networks.rescaled import Rescaled
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.prediction.building import refuse_stock_prediction
from nnunet_xmodal.tasks.reconstruction.checks import check_not_empty
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.tasks.reconstruction.validation import Method, validate_reconstruction
from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES, without
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.patches import Patches
from nnunet_xmodal.trainers.base.schedule import EpochSchedule, milestones


class ReconstructionTrainer(OwnTaskTrainer):
    """Learns the last image channel from those before it, inside a mask, on plans of ReconstructionPlanner.

    A method of its own is a subclass:

        def losses(self, prediction, patches) -> dict: …     # "loss" for the step, and what else the log should tell
        def augmented(self, patches) -> Patches: …           # on the device, in training only

    Patches are centred on voxels of the mask: the foreground, to which an ignore label does not belong. The network of
    the plans, the paper's backbone or nnU-Net's own, works on intensities divided by their standard deviation inside
    the masks of the training data, without an offset, and returns physical units. Adam whose rate falls to a tenth
    three times. The last weights are the final ones, as in nnU-Net.

    Attributes:
        num_epochs: of nnU-Net's 250 iterations.
        milestones, factor: shares of the training at which the learning rate is multiplied by the factor.
    """

    predicts = "images"
    score_name = "1 / (1 + mean |error| / mean |target|)"
    predictor_class = ReconstructionPredictor
    num_epochs = 60
    initial_lr, weight_decay = 1e-3, 0.0
    oversample_foreground_percent = 1.0
    milestones = (0.5, 0.7, 0.9)
    factor = 0.1
    one_input = True

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Read from the plans which channel is the target.

        Raises:
            XModalError: for plans without a target.
        """
        self.target = TargetChannel.of_plans(plans, type(self).__name__)
        super().set_up(plans, configuration, dataset_json)

    @classmethod
    def attention(cls) -> SkipAttention | None:
        """Return what the skips pass on their way to the decoder, see MultiStreamUNet; None for nothing."""
        return None

    @classmethod
    def backbone(cls, configuration_manager: ConfigurationManager, inputs: int, outputs: int) -> nn.Module:
        """Build the network of the plans, untrained: `(B, inputs, *spatial)` → `(B, outputs, *spatial)`."""
        architecture = configuration_manager.configuration["architecture"]
        if locate(architecture["network_class_name"], "network_class_name in the plans") is QSMUNet:
            return QSMUNet(inputs, outputs, attention=cls.attention(), **architecture["arch_kwargs"])
        plan = UNetPlan.from_configuration(configuration_manager, inputs, outputs, False, [list(range(inputs))])
        return MultiStreamUNet(**plan.arguments, attention=cls.attention())

    @classmethod
    def scales(cls, plans: dict, target: TargetChannel) -> tuple[list[float], float]:
        """Return what inputs and output are divided by for the network: standard deviations inside the masks."""
        properties = plans["foreground_intensity_properties_per_channel"]
        deviations = [float(properties[str(channel)].get("std") or 1) for channel in range(target.index + 1)]
        return deviations[:-1], deviations[-1]

    @classmethod
    def network_from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, inputs: int, outputs: int, deep_supervision: bool
    ) -> nn.Module:
        """Build the network by the plans' target, not by nnU-Net's numbers of channels and labels.

        Raises:
            XModalError: from stock prediction, and for plans without a target.
        """
        refuse_stock_prediction(cls.__name__, "images")
        target = TargetChannel.of_plans(plans.plans, cls.__name__)
        network = cls.backbone(configuration, cls.input_channels(plans.plans, target), target.outputs)
        if hasattr(network, "initialize"):
            network.apply(network.initialize)
        return cls.in_physical_units(network, plans.plans, target)

    @classmethod
    def input_channels(cls, plans: dict, target: TargetChannel) -> int:
        """Return how many channels the network reads."""
        return target.index

    @classmethod
    def in_physical_units(cls, network: nn.Module, plans: dict, target: TargetChannel) -> nn.Module:
        """Put the scales of the training data around a network."""
        return Rescaled(network, *cls.scales(plans, target))

    def _build_loss(self) -> nn.Module | None:
        """None: see `losses`."""

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """Return the optimiser and the schedule of its learning rate."""
        optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr, weight_decay=self.weight_decay)
        rate = milestones(self.initial_lr, self.num_epochs, self.milestones, self.factor)
        return optimizer, EpochSchedule(optimizer, rate)

    def losses(self, prediction: torch.Tensor, patches: Patches) -> dict[str, torch.Tensor]:
        """Return scalars, "loss" for the step and others for the log; here the mean absolute error inside the masks.

        Args:
            prediction: `(B, outputs, *spatial)`, float32, in the target's unit.
        """
        return {"loss": mean_inside(prediction - patches.target, patches.mask)}

    def augmented(self, patches: Patches) -> Patches:
        """Return the augmented patches of a training step; nnU-Net's loader has already turned, scaled and mirrored
        what `augmentation` says.
        """
        return patches

    def look_at(self, case: str, data: np.ndarray, mask: np.ndarray, properties: dict) -> None:
        """Check one case, as all of the fold are before the training begins.

        Args:
            data: `(C + 1, *spatial)`, inputs and target.
            mask: bool `(*spatial)`.
            properties: what preprocessing has noted.

        Raises:
            XModalError: for an empty mask.
        """
        check_not_empty(mask, f"of {case}")

    def cases(self, *datasets: nnUNetBaseDataset) -> Iterator[tuple[str, np.ndarray, np.ndarray, dict]]:
        """Yield name, data, mask and properties of every preprocessed case."""
        holders = {case: dataset for dataset in datasets for case in dataset.identifiers}
        for case, holder in holders.items():
            data, segmentation, _, properties = holder.load_case(case)
            yield case, data[:], inside(np.asarray(segmentation[0]), self.label_manager.ignore_label), properties

    def as_loaded(self, dataset: nnUNetBaseDataset) -> nnUNetBaseDataset:
        """Return a dataset as loaders should read it, once `look_at` has seen its cases; here as it is."""
        return dataset

    def augmentation(self) -> tuple[list[int], ComposeTransforms | None]:
        """Return the size of the patches that are loaded, and what is done to them: nnU-Net's, but nothing to
        intensities.
        """
        rotation, dummy_2d, loaded, mirror_axes = self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        masks = self.configuration_manager.use_mask_for_norm
        patch_size = self.configuration_manager.patch_size
        transforms = self.get_training_transforms(
            patch_size, rotation, None, mirror_axes, dummy_2d, use_mask_for_norm=masks
        )
        return list(loaded), ComposeTransforms(without(transforms, CHANGE_INTENSITIES))

    def get_dataloaders(self) -> tuple[Augmenter, Augmenter]:
        """Return the loaders of training and validation patches, once all cases are checked."""
        training, validation = self.get_tr_and_val_datasets()
        for case in self.cases(training, validation):
            self.look_at(*case)
        training, validation = self.as_loaded(training), self.as_loaded(validation)
        loaded, transforms = self.augmentation()
        patch_size = self.configuration_manager.patch_size

        def loader(
            dataset: nnUNetBaseDataset, size: Sequence[int], transforms: ComposeTransforms | None
        ) -> nnUNetDataLoader:
            share = self.oversample_foreground_percent
            return nnUNetDataLoader(
                dataset,
                self.batch_size,
                size,
                patch_size,
                self.label_manager,
                oversample_foreground_percent=share,
                transforms=transforms,
            )

        return in_background(loader(training, loaded, transforms), loader(validation, patch_size, None), self.device)

    def on_train_start(self) -> None:
        """Check the other folds and log what is learnt from what before the first epoch."""
        self._check_scales_of_other_folds()
        super().on_train_start()
        *inputs, target = channel_names_of(self.dataset_json)
        self.print_to_log_file(f"Learns {target} from {', '.join(inputs)}")

    def _check_scales_of_other_folds(self) -> None:
        """
        Raises:
            XModalError: if folds that were trained on other units or deviations would share this fold's plans, from
                which a prediction takes them.
        """
        other, plans = self.other_fold()
        if other is None:
            return
        theirs, ours = (self.shared_by_folds(each) for each in (plans, self.plans_manager.plans))
        if theirs != ours:
            raise XModalError(
                f"{other} was trained with the deviations and field {theirs}, but the plans now say {ours}: restore "
                "the plans, or plan with another -overwrite_plans_name."
            )

    def shared_by_folds(self, plans: dict) -> tuple:
        """Return what all folds of a model have in common, from the plans of one."""
        return (*self.scales(plans, self.target), plans["xmodal"].get("field"))

    def patches(self, batch: dict) -> Patches:
        """Put a batch of nnU-Net's loader on the device."""
        data = batch["data"].to(self.device, non_blocking=True)
        labels = batch["target"].to(self.device, non_blocking=True)[:, :1]
        mask = inside(labels, self.label_manager.ignore_label)
        index = self.target.index
        return Patches(data[:, :index], data[:, index : index + 1], mask.float(), [str(key) for key in batch["keys"]])

    def network_inputs(self, patches: Patches) -> torch.Tensor:
        """Return what the network reads of patches that are augmented, `(B, C, *spatial)`."""
        return patches.inputs

    def train_step(self, batch: dict) -> dict:
        """Train on one batch; return the losses.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        patches = self.augmented(self.patches(batch))
        with self.mixed_precision():
            prediction = self.network(self.network_inputs(patches))
        losses = self.losses(prediction.float(), patches)
        self.descend(losses["loss"], self.optimizer)
        self.end_step()
        values = {name: value.item() for name, value in losses.items()}
        self.check_losses(values)
        return values

    def validation_step(self, batch: dict) -> dict:
        """Score one batch by the network without wrappers: ranks need not take equal steps."""
        patches = self.patches(batch)
        with self.mixed_precision():
            prediction = self.plain_network(self.network_inputs(patches)).float()
        error = mean_inside(prediction[:, :1] - patches.target, patches.mask).item()
        size = mean_inside(patches.target, patches.mask).item()
        score = size / (size + error) if size + error else 1.0
        return {"loss": self.losses(prediction, patches)["loss"].item(), "score": score}

    def method(self) -> Method:
        """Return the network as it is now, as one like any other; see `tasks.reconstruction.validation`."""
        predictor = self.make_predictor()
        return lambda case: predictor.on_network_grid(case.inputs, case.properties)[0]

    def validate(self, dataset: nnUNetBaseDataset, cases: list[str]) -> dict[str, float]:
        """Reconstruct every validation case; see `validate_reconstruction` for what it writes."""
        return validate_reconstruction(
            self.method(),
            dataset,
            cases,
            self.plans_manager,
            self.configuration_manager,
            self.dataset_json,
            self.output_folder,
            self.print_to_log_file,
            *self.ranks,
        )
