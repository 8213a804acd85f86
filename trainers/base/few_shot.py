"""What few-shot trainings have in common: superpixels for labels, episodes for batches, support sets for prediction."""

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from nnunetv2.configuration import default_num_processes
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.datasets.background_loading import Augmenter, started
from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.datasets.stored_axes import axes_noted, most_common
from nnunet_xmodal.datasets.turned_cases import TurnedCases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.few_shot import EpisodeLoss
from nnunet_xmodal.losses.finite import check_finite
from nnunet_xmodal.networks.blocks.local_prototypes import LocalPrototypes
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.networks.resnet_backbone import ResNetBackbone
from nnunet_xmodal.prediction.building import builder
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.episodes import EpisodeLoader, Transform
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.tasks.few_shot.superpixel_cache import SuperpixelMaps, ensure_superpixels, superpixel_folder
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings
from nnunet_xmodal.tasks.few_shot.support import fill_support
from nnunet_xmodal.tasks.few_shot.validation import add_protocol
from nnunet_xmodal.trainers.base.augmentation import AugmentationSettings
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.schedule import EpochSchedule, decay
from nnunet_xmodal.trainers.base.trainer import XModalTrainer


class FewShotTrainer(OwnTaskTrainer):
    """Learns to segment superpixels from one example each, on plans of FewShotPlanner, without a look at any label.

    A step is one episode: a superpixel of one slice, its slice as support and a transformed copy as query. 100 epochs
    of 1,000 steps, as in the paper; the learning rate falls a hundred times over the training, however long it is.
    Labels are read only to choose, when training begins, the support slices that every checkpoint keeps: per label
    three chunks of the organ, from cases of the training fold.

    Attributes:
        backbone: "resnet101" or "resnet18", at output stride 8.
        weights: that it begins with: "coco", "imagenet", the path of a state dict, or None.
        cross_reference: block between features and prototypes, from its channels; None for none.
        prototypes: makes the module that turns support features into scores.
        transform_query, transform_support: of the slice that both are; the support stays as it is, as in the paper.
        shots: support slices per label and chunk, each of another case; None for the plans' number.
        initial_lr, decay: the learning rate, and by what it is multiplied a hundred times.
        momentum: of SGD; None for Adam.
    """

    predicts = "labels"
    score_name = "Dice of superpixels"
    predictor_class = FewShotPredictor
    backbone = "resnet101"
    weights: str | None = "coco"
    cross_reference: Callable[[int], nn.Module] | None = None
    prototypes: Callable[[], nn.Module] = LocalPrototypes
    network: nn.Module
    transform_query: Transform = ALPNET
    transform_support: Transform = staticmethod(unchanged)
    shots: int | None = None
    initial_lr, weight_decay = 1e-3, 0.0
    decay = 0.98
    momentum: float | None = None
    oversample_foreground_percent = 0.0
    num_epochs, num_iterations_per_epoch, num_val_iterations_per_epoch = 100, 1000, 100

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        # build_network_architecture gets how many outputs there are, not whether one is background
        self.plans_manager.plans["xmodal"]["regions"] = self.label_manager.has_regions

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> PrototypeNetwork:
        """Build the network from the plans, as nnU-Net asks for it.

        Raises:
            XModalError: for other plans than FewShotPlanner's.
        """
        arguments = configuration_manager.configuration["architecture"]["arch_kwargs"]
        if "chunks" not in arguments:
            raise XModalError(
                f"{cls.__name__} segments from support sets, which the plans {plans_manager.plans_name} do not "
                "have: plan with nnUNetXModal_plan_and_preprocess -pl FewShotPlanner and train with -p "
                "nnUNetFewShotPlans."
            )
        regions = plans_manager.plans.get("xmodal", {}).get("regions", False)
        # whoever predicts has a checkpoint's weights: nothing is downloaded for that
        weights = cls.weights if builder() == "trainer" else None
        backbone = ResNetBackbone(cls.backbone, num_input_channels, weights=weights)
        return PrototypeNetwork(
            backbone,
            cls.prototypes(),
            labels=num_output_channels if regions else num_output_channels - 1,
            cross_reference=cls.cross_reference and cls.cross_reference(backbone.features),
            input_channels=num_input_channels,
            background=not regions,
            **arguments | ({"shots": cls.shots} if cls.shots else {}),
        )

    def _set_batch_size_and_oversample(self) -> None:
        """An episode cannot be shared among GPUs as nnU-Net shares a batch: each has a batch of its own."""
        self.batch_size = self.configuration_manager.batch_size

    def _build_loss(self) -> nn.Module:
        return EpisodeLoss()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """Return the optimiser and the schedule of its learning rate."""
        settings = {"lr": self.initial_lr, "weight_decay": self.weight_decay}
        if self.momentum is None:
            optimizer = torch.optim.Adam(self.network.parameters(), **settings)
        else:
            optimizer = torch.optim.SGD(self.network.parameters(), momentum=self.momentum, **settings)
        return optimizer, EpochSchedule(optimizer, decay(self.initial_lr, self.num_epochs, self.decay))

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> AugmentationSettings:
        """Use nothing of nnU-Net's augmentation: a mirrored query would lie beside a support that is not."""
        self.inference_allowed_mirroring_axes = None
        return None, False, self.configuration_manager.patch_size, None

    def superpixels(self) -> SuperpixelMaps:
        """Return the superpixels of all cases of the fold, made now where they are missing; labels are not read."""
        cases = sorted({case for part in self.do_split() for case in part})
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases)
        settings = SuperpixelSettings.for_patch(self.configuration_manager.patch_size)
        if self.is_ddp and self.local_rank != 0:
            dist.barrier()  # the first process makes them for all
        maps = ensure_superpixels(
            dataset, superpixel_folder(self.preprocessed_dataset_folder), settings, default_num_processes
        )
        if self.is_ddp and self.local_rank == 0:
            dist.barrier()
        return maps

    def get_dataloaders(self) -> tuple[Augmenter, Augmenter]:
        """Return episodes of training and validation cases, in the background."""
        self.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        maps, patch_size = self.superpixels(), self.configuration_manager.patch_size
        training, validation = (
            EpisodeLoader(dataset, maps, patch_size, self.batch_size, self.transform_query, self.transform_support)
            for dataset in self.get_tr_and_val_datasets()
        )
        return started(training, self.device), started(validation, self.device, share=2)

    def on_train_start(self) -> None:
        """Note the cases' axes and choose the support before the first epoch."""
        if not self.was_initialized:  # as nnU-Net's does; refuses plans of another planner before data is read
            self.initialize()
        self.note_axes()
        super().on_train_start()
        if not self.plain_network.support.exists.any():  # a training that goes on has its support
            self.choose_support()

    def note_axes(self) -> None:
        """Record, in the plans that the model keeps, along which axes most cases of the dataset are stored."""
        cases = sorted({case for part in self.do_split() for case in part})
        dataset = self.dataset_class(self.preprocessed_dataset_folder, cases)
        noted = {case: axes_noted(dataset.load_case(case)[-1]) for case in cases}
        usual = most_common({case: code for case, code in noted.items() if code is not None})
        if usual is not None:
            self.plans_manager.plans["xmodal"]["stored_axes"] = usual

    def along_one_axis(self, dataset: nnUNetBaseDataset) -> TurnedCases:
        """Return the cases of a dataset as if all ran the way that most do."""
        axes = self.plans_manager.plans["xmodal"].get("stored_axes")
        return TurnedCases(dataset, axes, self.plans_manager.transpose_forward)

    def choose_support(self) -> None:
        """Choose from the training cases the support that every checkpoint holds for prediction. The only look at a
        label.
        """
        training, _ = self.get_tr_and_val_datasets()
        chosen = fill_support(self.plain_network, self.along_one_axis(training), self.label_manager)
        for line in chosen:
            self.print_to_log_file("Support:", line)
        if not self.plain_network.support.exists.any():
            self.print_to_log_file(
                f"Support: none of the {len(training.identifiers)} training cases of fold {self.fold} is labelled: "
                "nothing will be predicted but with nnUNetXModal_predict --support; fold all has all cases."
            )

    def episode(self, batch: dict) -> dict:
        """Return the tensors of a batch on the device."""
        names = ("data", "query_mask", "support", "support_mask")
        return {name: batch[name].to(self.device, non_blocking=True) for name in names}

    def train_step(self, batch: dict) -> dict:
        """Train on one batch of episodes; return the losses.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        batch = self.episode(batch)
        with self.mixed_precision():
            scores, aligned = self.network(batch["data"], batch["support"], batch["support_mask"])  # B 2 H W each
        terms = self.loss(scores, aligned, batch["query_mask"], batch["support_mask"])
        self.descend(terms.total, self.optimizer)
        self.end_step()
        losses = {
            "loss": terms.total.item(),
            "segmentation": terms.segmentation.item(),
            "alignment": terms.alignment.item(),
        }
        check_finite(losses, self.current_epoch)
        return losses

    def validation_step(self, batch: dict) -> dict:
        """Score episodes of the validation cases, by the network without wrappers: ranks need not take equal steps."""
        batch = self.episode(batch)
        with self.mixed_precision():
            scores, aligned = self.plain_network(batch["data"], batch["support"], batch["support_mask"])
        terms = self.loss(scores, aligned, batch["query_mask"], batch["support_mask"])
        predicted, truth = scores[:, 1] > scores[:, 0], batch["query_mask"] > 0
        dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())  # no superpixel is empty
        return {"loss": terms.total.item(), "score": dice.item()}

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, where every slice is segmented and all labels compete; then the paper's protocol.

        `validation/summary.json` has the former as Dice and so on, the latter as protocol_Dice.
        """
        wrapped = self.network
        try:
            if self.is_ddp:  # DistributedDataParallel shares buffers in its next pass, and a rank may have no case
                self.network = self.network.module
            XModalTrainer.perform_actual_validation(self, save_probabilities)  # labels, as any segmentation
        finally:
            self.network = wrapped
        _, cases = self.do_split()
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
