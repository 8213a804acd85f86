"""What few-shot trainings have in common: superpixels for labels, episodes for batches, support sets for prediction."""

from collections.abc import Callable

import torch
import torch.distributed as dist
from nnunetv2.configuration import default_num_processes
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.datasets.background_loading import Augmenter, started
from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.losses.few_shot import EpisodeLoss
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.networks.resnet_backbone import ResNetBackbone
from nnunet_xmodal.prediction.building import builder
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.episodes import SUPERPIXELS_PER_PAIR, EpisodeLoader, Transform
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.tasks.few_shot.superpixel_cache import SuperpixelMaps, ensure_superpixels, superpixel_folder
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings
from nnunet_xmodal.tasks.few_shot.support import fill_support
from nnunet_xmodal.trainers.base.augmentation import AugmentationSettings
from nnunet_xmodal.trainers.base.few_shot_sight import NotedSight
from nnunet_xmodal.trainers.base.few_shot_validation import TwoValidations
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.schedule import EpochSchedule, decay

_SEEN = ("data", "support", "support_mask", "pair")  # of a batch, by the network


class FewShotTrainer(NotedSight, TwoValidations, OwnTaskTrainer):
    """Learns to segment superpixels from one example each, on plans of FewShotPlanner, without a look at any label.

    A step is one slice as support and a transformed copy as query, with one episode for each of some superpixels of
    the slice. 100 epochs of 1,000 steps, as in the paper; the learning rate falls a hundred times over the training,
    however long it is.
    Labels are read only to choose, when training begins, the support slices that every checkpoint keeps: per label
    three chunks of the organ, from cases of the training fold.

    Attributes:
        backbone: "resnet101" or "resnet18", at output stride 8.
        weights: that it begins with: "coco", "imagenet", the path of a state dict, or None.
        cross_reference: block between features and prototypes, from its channels; None for none.
        transform_query, transform_support: of the slice that both are; the support stays as it is, as in the paper.
        superpixels_per_pair: episodes about one pair of slices; 1 in the paper.
        alignment_weights: of background and foreground in the alignment's loss.
        shots: support slices per label and chunk, each of another case; None for the plans' number.
        initial_lr, decay: the learning rate, and by what it is multiplied a hundred times.
        momentum: of SGD; None for Adam.
    """

    predicts = "labels"
    score_name = "Dice of superpixels"
    planner, plans_name = "FewShotPlanner", "nnUNetFewShotPlans"
    predictor_class = FewShotPredictor
    backbone = "resnet101"
    weights: str | None = "coco"
    cross_reference: Callable[[int], nn.Module] | None = None
    superpixels_per_pair = SUPERPIXELS_PER_PAIR
    alignment_weights: tuple[float, float] = (1.0, 1.0)
    network: nn.Module
    transform_query: Transform = ALPNET
    transform_support: Transform = staticmethod(unchanged)
    shots: int | None = None
    initial_lr, weight_decay = 1e-3, 0.0
    decay = 0.98
    momentum: float | None = None
    oversample_foreground_percent = 0.0
    one_input = True
    num_epochs, num_iterations_per_epoch, num_val_iterations_per_epoch = 100, 1000, 100

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Add to the plans whether labels are regions: a network learns the number of outputs, not what they are."""
        super().set_up(plans, configuration, dataset_json)
        plans["xmodal"]["regions"] = PlansManager(plans).get_label_manager(dataset_json).has_regions

    @classmethod
    def network_from_plans(
        cls, plans: PlansManager, configuration: ConfigurationManager, inputs: int, outputs: int, deep_supervision: bool
    ) -> PrototypeNetwork:
        """Build the network that segments from support sets.

        Raises:
            XModalError: for other plans than FewShotPlanner's.
        """
        arguments = cls.own_arguments(plans, configuration, "chunks", "segments from support sets")
        regions = plans.plans.get("xmodal", {}).get("regions", False)
        # whoever predicts has a checkpoint's weights: nothing is downloaded for that
        weights = cls.weights if builder() == "trainer" else None
        backbone = cls.make_backbone(inputs, weights)
        return PrototypeNetwork(
            backbone,
            labels=outputs if regions else outputs - 1,
            cross_reference=cls.cross_reference and cls.cross_reference(backbone.features),
            input_channels=inputs,
            background=not regions,
            **cls.sight_of(plans.plans),
            **arguments | ({"shots": cls.shots} if cls.shots else {}),
        )

    @classmethod
    def make_backbone(cls, channels: int, weights: str | None) -> nn.Module:
        """Return the network that turns slices into features, with `features` of them at output stride 8."""
        return ResNetBackbone(cls.backbone, channels, weights=weights)

    def _set_batch_size_and_oversample(self) -> None:
        """An episode cannot be shared among GPUs as nnU-Net shares a batch: each has a batch of its own."""
        self.batch_size = self.configuration_manager.batch_size

    def _build_loss(self) -> nn.Module:
        return EpisodeLoss(alignment_weights=self.alignment_weights)

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
            EpisodeLoader(
                dataset,
                maps,
                patch_size,
                self.batch_size,
                self.transform_query,
                self.transform_support,
                self.superpixels_per_pair,
                self.plain_network.padded_by_background,
            )
            for dataset in self.get_tr_and_val_datasets()
        )
        return started(training, self.device), started(validation, self.device, share=2)

    def on_train_start(self) -> None:
        """Note the cases' axes and choose the support before the first epoch."""
        if not self.was_initialized:  # as nnU-Net's does; refuses plans of another planner before data is read
            self.initialize()
        self.check_sight_of_other_folds()
        self.note_axes()
        super().on_train_start()
        if not self.plain_network.support.exists.any():  # a training that goes on has its support
            self.choose_support()

    def choose_support(self) -> None:
        """Choose from the training cases the support that every checkpoint holds for prediction. The only look at a
        label.
        """
        training, _ = self.get_tr_and_val_datasets()
        chosen = fill_support(
            self.plain_network,
            self.along_one_axis(training),
            self.label_manager,
            self.plans_manager.transpose_forward,
        )
        for line in chosen:
            self.print_to_log_file("Support:", line)
        if not self.plain_network.support.exists.any():
            self.print_to_log_file(
                f"Support: none of the {len(training.identifiers)} training cases of fold {self.fold} is labelled: "
                "nothing will be predicted but with nnUNetXModal_predict --support; fold all has all cases."
            )

    def episode(self, batch: dict) -> dict:
        """Return the tensors of a batch on the device."""
        names = ("data", "query_mask", "support", "support_mask", "pair")
        return {name: batch[name].to(self.device, non_blocking=True) for name in names}

    def train_step(self, batch: dict) -> dict:
        """Train on one batch of episodes; return the losses.

        Raises:
            XModalError: for NaN in the batch, which names the case, and for a loss that is NaN or infinite.
        """
        check_batch(batch)
        batch = self.episode(batch)
        with self.mixed_precision():
            scores, aligned = self.network(*(batch[name] for name in _SEEN))  # N 2 H W each
        terms = self.loss(scores, aligned, batch["query_mask"], batch["support_mask"])
        self.descend(terms.total, self.optimizer)
        self.end_step()
        losses = {
            "loss": terms.total.item(),
            "segmentation": terms.segmentation.item(),
            "alignment": terms.alignment.item(),
        }
        self.check_losses(losses)
        return losses

    def validation_step(self, batch: dict) -> dict:
        """Score episodes of the validation cases, by the network without wrappers: ranks need not take equal steps."""
        batch = self.episode(batch)
        with self.mixed_precision():
            scores, aligned = self.plain_network(*(batch[name] for name in _SEEN))
        terms = self.loss(scores, aligned, batch["query_mask"], batch["support_mask"])
        predicted, truth = ((scores[:, 1] > scores[:, 0]).flatten(1), (batch["query_mask"] > 0).flatten(1))  # N HW
        dice = 2 * (predicted & truth).sum(1) / (predicted.sum(1) + truth.sum(1))  # no superpixel is empty
        return {"loss": terms.total.item(), "score": dice.mean().item()}
