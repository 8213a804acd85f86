"""Quantitative susceptibility mapping, with folded attention and its rivals (Zhang et al., 2021, Table 2)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import nn

from nnunet_xmodal.datasets.more_channels import WithMoreChannels
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.geometry.in_plane_rotation import rotated, rotated_direction, size_before_rotation
from nnunet_xmodal.losses.dipole_inversion import DipoleInversionLoss, mean_inside
from nnunet_xmodal.networks.blocks.at_bottleneck import AtBottleneck
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.multi_stream_unet import SkipAttention
from nnunet_xmodal.networks.on_inversion import OnInversion
from nnunet_xmodal.physics.field_inputs import FieldInputs, magnitude_channel
from nnunet_xmodal.physics.measured_field import FieldGeometry, MeasuredField, distinct_directions, mirror_axes
from nnunet_xmodal.tasks.reconstruction import checks
from nnunet_xmodal.tasks.reconstruction.inversion_files import InversionFiles
from nnunet_xmodal.tasks.reconstruction.susceptibility import SusceptibilityPredictor
from nnunet_xmodal.trainers.attention import nnUNetTrainerDualAttention, nnUNetTrainerRSA, nnUNetTrainerSA
from nnunet_xmodal.trainers.base.field_augmentation import random_factors, randomly_mirrored
from nnunet_xmodal.trainers.base.patches import FieldPatches, Patches
from nnunet_xmodal.trainers.base.reconstruction import ReconstructionTrainer


class nnUNetTrainerQSM(ReconstructionTrainer):
    """The backbone: field map in, susceptibility map in ppm out.

    The network reads the field, inversions of it that were computed on the whole case, and the direction of the
    main field; it returns what total variation lacks, see `physics.field_inputs`. A channel named "magnitude" says how
    far every voxel's field is trusted.

    Loss of `losses.dipole_inversion` inside the mask. Every training patch is reversed and made stronger or weaker at
    random, which the physics does not mind; mirrored, along the axes that leave the main field of all cases alone where
    the network is not told its direction; and turned in the plane of its slices. The main field's direction goes with
    the latter two. Patches are loaded with a margin, so that no corner is empty.

    Attributes:
        field_inputs: what the network reads beside the files' channels; None for the field alone.
        reversals: whether patches are reversed, field and map, with a chance of one half.
        strengths: range of the factor on field and map, drawn evenly in its logarithm.
        rotation: degrees either way.
        mirroring: at random in training, and all mirrored copies averaged at prediction, where the physics allows it.
        model_weight, gradient_weight: see DipoleInversionLoss.
        square_weight: of the mean squared error by the deviation of the training's maps, in ppm: L1 asks for the median
            of what a map may be, squares for the mean.
        against_measured_field: the model term compares with the measured field, as QSMnet's does, instead of the field
            of the true map of the same patch.
    """

    predictor_class = SusceptibilityPredictor
    field_inputs: FieldInputs | None = FieldInputs()
    reversals = True
    strengths: tuple[float, float] | None = (0.6, 1.6)
    rotation = 15.0
    mirroring = True
    model_weight = 1.0
    gradient_weight = 0.1
    square_weight = 2.0
    against_measured_field = False

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Read from the plans in which unit the field was measured, and note in them what the network reads."""
        entry = {key: value for key, value in plans.get("xmodal", {}).items() if key != "field_inputs"}
        if self.field_inputs is not None:  # the model's folder is complete in itself, whatever becomes of this class
            entry["field_inputs"] = replace(self.field_inputs, odd=self.reversals).as_entry()
        plans["xmodal"] = entry
        super().set_up(plans, configuration, dataset_json)
        self.field = MeasuredField.of_entry(plans["xmodal"].get("field"))
        self.geometries: dict[str, FieldGeometry] = {}
        self.inversions: InversionFiles | None = None

    def _build_loss(self) -> DipoleInversionLoss:
        return DipoleInversionLoss(self.model_weight, self.gradient_weight)

    def _check_checkpoint(self, filename: str) -> None:
        """
        Raises:
            XModalError: as XModalTrainer; also for a checkpoint whose network reads otherwise.
        """
        super()._check_checkpoint(filename)
        of_checkpoint = read_checkpoint(filename, mmap=True)["init_args"]["plans"]
        theirs, ours = (plans["xmodal"].get("field_inputs") for plans in (of_checkpoint, self.plans_manager.plans))
        if theirs != ours:
            theirs, ours = ("the field alone" if each is None else f"the field and {each}" for each in (theirs, ours))
            raise XModalError(
                f"{filename} is of a network that reads {theirs}, and {type(self).__name__} now reads {ours}: predict "
                "with the model as it is, train anew without --c, or train …Direct, which reads the field alone."
            )

    @classmethod
    def scales(cls, plans: dict, target: TargetChannel) -> tuple[list[float], float]:
        """Return the scales of a field in ppm; its deviation is known in the unit of the files."""
        (field, *others), susceptibility = super().scales(plans, target)
        return [field / MeasuredField.of_entry(plans["xmodal"].get("field")).one_ppm, *others], susceptibility

    @classmethod
    def input_channels(cls, plans: dict, target: TargetChannel) -> int:
        """Return how many channels the network of a model reads: of its plans, which may be older than the class."""
        inputs = FieldInputs.of_entry(plans["xmodal"].get("field_inputs"))
        return target.index + (0 if inputs is None else inputs.channels)

    @classmethod
    def in_physical_units(cls, network: nn.Module, plans: dict, target: TargetChannel) -> nn.Module:
        """Put scales around a network, and the inversion that it corrects: untrained, it adds nothing to that."""
        inputs = FieldInputs.of_entry(plans["xmodal"].get("field_inputs"))
        if inputs is None:
            return super().in_physical_units(network, plans, target)
        scales, susceptibility = cls.scales(plans, target)
        decoder: Any = network.decoder
        for parameter in decoder.seg_layers[-1].parameters():
            nn.init.zeros_(parameter)
        inversions = len(inputs.alphas)
        scales = [*scales, *[susceptibility] * inversions, *[1.0] * (inputs.channels - inversions)]
        return OnInversion(network, scales, base=target.index)

    def shared_by_folds(self, plans: dict) -> tuple:
        """Return what all folds of a model have in common, from the plans of one."""
        inputs = plans["xmodal"].get("field_inputs")
        return super().shared_by_folds(plans) + (() if inputs is None else (inputs,))

    def look_at(self, case: str, data: np.ndarray, mask: np.ndarray, properties: dict) -> None:
        """Check one case, and note where the main field points.

        Raises:
            XModalError: for an empty mask, intensities beyond those of ppm, axes that are not at right angles, and, in
                the first cases, as units are a dataset's, a field that its map does not make.
        """
        super().look_at(case, data, mask, properties)
        field, target = data[0] / self.field.one_ppm, data[self.target.index]
        checks.check_field(data[0], mask, case, self.field.one_ppm, self.field.unit)
        deviation = self.scales(self.plans_manager.plans, self.target)[0][0]
        checks.check_like_training(field, mask, case, deviation, self.field.unit)
        checks.check_susceptibility(target, mask, case)
        self.geometries[case] = self.field.geometry(properties, data.shape[1:], self.plans_manager.transpose_forward)
        if len(self.geometries) <= checks.COMPARED_WITH_MAPS:
            checks.check_field_of_map(field, target, mask, self.geometries[case], case, self.field.unit)

    def as_loaded(self, dataset: nnUNetBaseDataset) -> nnUNetBaseDataset:
        """Return a dataset whose cases have the inversions of their fields behind the target."""
        if self.field_inputs is None:
            return dataset
        if self.inversions is None:
            names = channel_names_of(self.dataset_json)[: self.target.index]
            self.inversions = InversionFiles(
                self.field_inputs, self.field.one_ppm, magnitude_channel(names), self.device
            )
        self.inversions.find(dataset, self.geometries)
        rank, ranks = self.ranks
        self.inversions.make(dataset, dataset.identifiers[rank::ranks], self.geometries, self.print_to_log_file)
        if ranks > 1:
            dist.barrier()
        return WithMoreChannels(dataset, self.inversions.__getitem__)

    def augmentation(self) -> tuple[list[int], ComposeTransforms | None]:
        """Return the size of patches with a margin for the rotation; everything else is done on the device."""
        directions = [geometry.direction for geometry in self.geometries.values()]
        self.plans_manager.plans["xmodal"]["directions"] = distinct_directions(directions)
        self.inference_allowed_mirroring_axes = mirror_axes(directions) if self.mirroring else ()
        ratios = [geometry.spacing[1] / geometry.spacing[2] for geometry in self.geometries.values()]
        ratio = max(max(ratio, 1 / ratio) for ratio in ratios)
        return size_before_rotation(self.configuration_manager.patch_size, self.rotation, ratio), None

    def on_train_start(self) -> None:
        """Log the unit and the mirrored axes before the first epoch."""
        super().on_train_start()
        axes = ", ".join("zyx"[axis] for axis in self.inference_allowed_mirroring_axes)
        self.print_to_log_file(f"Field in {self.field.unit}; mirrored along: {axes or 'no axis'}")

    def patches(self, batch: dict) -> FieldPatches:
        """Put a batch on the device, with the field in ppm, its inversions, and where the main field points."""
        patches = super().patches(batch)
        geometries = [self.geometries[key] for key in patches.keys]
        spacing, direction = (
            torch.tensor(vectors, dtype=torch.float32, device=self.device) for vectors in zip(*geometries)
        )
        inversions = batch["data"][:, self.target.index + 1 :].to(self.device, non_blocking=True)
        inputs = torch.cat((patches.inputs[:, :1] / self.field.one_ppm, patches.inputs[:, 1:], inversions), 1)
        return FieldPatches(inputs, patches.target, patches.mask, patches.keys, spacing, direction)

    def augmented(self, patches: Patches) -> FieldPatches:
        """Reverse, scale, mirror and rotate the patches of a training step, and the main field with the latter two."""
        assert isinstance(patches, FieldPatches)  # `patches` makes no others
        index = patches.inputs.shape[1]
        volumes = torch.cat((patches.inputs, patches.target, patches.mask), 1)
        volumes = volumes * random_factors(volumes, self.target.index, self.strengths, self.reversals)
        volumes, direction = randomly_mirrored(volumes, patches.direction, self._mirrored_in_training())
        largest = np.deg2rad(self.rotation)
        angle = ((2 * torch.rand(len(volumes)) - 1) * largest).to(self.device)
        size = self.configuration_manager.patch_size
        images = rotated(volumes[:, :-1], angle, patches.spacing, size)
        mask = rotated(volumes[:, -1:], angle, patches.spacing, size, mode="nearest")
        return FieldPatches(
            images[:, :index],
            images[:, index:],
            mask,
            patches.keys,
            patches.spacing,
            rotated_direction(direction, angle),
        )

    def _mirrored_in_training(self) -> Sequence[int]:
        """All axes where the network is told the direction of the main field, which is mirrored with the patch."""
        if self.mirroring and self.field_inputs is not None and self.field_inputs.direction:
            return 0, 1, 2
        return self.inference_allowed_mirroring_axes or ()

    def network_inputs(self, patches: Patches) -> torch.Tensor:
        """Return the inputs with the direction of the main field behind them."""
        assert isinstance(patches, FieldPatches)
        if self.field_inputs is None:
            return patches.inputs
        direction = self.field_inputs.of_direction(patches.direction, patches.inputs.shape[2:])
        return torch.cat((patches.inputs, direction), 1)

    def losses(self, prediction: torch.Tensor, patches: Patches) -> dict[str, torch.Tensor]:
        """Return the total, and its terms without their weights; in ppm, the gradient in ppm/mm."""
        assert isinstance(patches, FieldPatches)
        field = patches.inputs[:, :1] if self.against_measured_field else None
        terms = self.loss(prediction[:, :1], patches.target, patches.mask, patches.spacing, patches.direction, field)
        losses = {"loss": terms.total, "L1": terms.l1, "model": terms.model, "gradient": terms.gradient}
        if self.square_weight:
            _, deviation = self.scales(self.plans_manager.plans, self.target)
            losses["squares"] = mean_inside((prediction[:, :1] - patches.target) ** 2, patches.mask) / deviation
            losses["loss"] = losses["loss"] + self.square_weight * losses["squares"]
        return losses


class nnUNetTrainerQSMFA(nnUNetTrainerQSM):
    """Folded attention at the bottom.

    Attributes:
        residual_beta: steps are z + β·A z with β starting at 0, as the paper's number of parameters has it.
        invert_channel, scale_logits: see FoldedAttention.
    """

    residual_beta = True
    invert_channel = False
    scale_logits = False

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes folded attention at the bottom."""
        block = partial(
            FoldedAttention,
            residual_beta=cls.residual_beta,
            invert_channel=cls.invert_channel,
            scale_logits=cls.scale_logits,
        )
        return lambda conv_op, widths, norm_op: AtBottleneck(block, conv_op, widths)


class nnUNetTrainerQSMSA(nnUNetTrainerQSM):
    """Self-attention between all positions at the bottom."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes self-attention at the bottom."""
        return nnUNetTrainerSA.attention()


class nnUNetTrainerQSMDualAttention(nnUNetTrainerQSM):
    """Dual attention at the bottom, with the backbone's normalisation."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes dual attention at the bottom."""
        return nnUNetTrainerDualAttention.attention()


class nnUNetTrainerQSMRSA(nnUNetTrainerQSM):
    """Recurrent slice-wise attention at the bottom."""

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes recurrent slice-wise attention at the bottom."""
        return nnUNetTrainerRSA.attention()
