"""Quantitative susceptibility mapping, with folded attention and its rivals (Zhang et al., 2021, Table 2)."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms

from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.geometry.in_plane_rotation import rotated, rotated_direction, size_before_rotation
from nnunet_xmodal.losses.dipole_inversion import DipoleInversionLoss
from nnunet_xmodal.networks.blocks.at_bottleneck import AtBottleneck
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.multi_stream_unet import SkipAttention
from nnunet_xmodal.physics.measured_field import FieldGeometry, MeasuredField, mirror_axes
from nnunet_xmodal.tasks.reconstruction.checks import check_field, check_susceptibility
from nnunet_xmodal.tasks.reconstruction.susceptibility import SusceptibilityPredictor
from nnunet_xmodal.trainers.attention import nnUNetTrainerDualAttention, nnUNetTrainerRSA, nnUNetTrainerSA
from nnunet_xmodal.trainers.base.reconstruction import Patches, ReconstructionTrainer


@dataclass
class FieldPatches(Patches):
    """A batch of field maps in ppm.

    Attributes:
        spacing: `(B, 3)`, effective, mm along D, H, W.
        direction: `(B, 3)`, unit vectors of the main field along them.
    """

    spacing: torch.Tensor
    direction: torch.Tensor


class nnUNetTrainerQSM(ReconstructionTrainer):
    """The backbone: field map in, susceptibility map in ppm out.

    Loss of `losses.dipole_inversion` inside the mask. Every training patch is mirrored at random along the axes that
    leave the main field of all cases alone, and turned in the plane of its slices, with its field's direction; it is
    loaded with a margin, so that no corner is empty.

    Attributes:
        rotation: degrees either way.
        mirroring: at random in training, and all mirrored copies averaged at prediction, where the physics allows it.
        model_weight, gradient_weight: see DipoleInversionLoss.
        against_measured_field: the model term compares with the measured field, as QSMnet's does, instead of the field
            of the true map of the same patch.
    """

    predictor_class = SusceptibilityPredictor
    rotation = 15.0
    mirroring = True
    model_weight = 1.0
    gradient_weight = 0.1
    against_measured_field = False

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Read from the plans in which unit the field was measured."""
        super().set_up(plans, configuration, dataset_json)
        self.field = MeasuredField.of_entry(plans["xmodal"].get("field"))
        self.geometries: dict[str, FieldGeometry] = {}

    def _build_loss(self) -> DipoleInversionLoss:
        return DipoleInversionLoss(self.model_weight, self.gradient_weight)

    @classmethod
    def scales(cls, plans: dict, target: TargetChannel) -> tuple[list[float], float]:
        """Return the scales of a field in ppm; its deviation is known in the unit of the files."""
        (field, *others), susceptibility = super().scales(plans, target)
        return [field / MeasuredField.of_entry(plans["xmodal"].get("field")).one_ppm, *others], susceptibility

    def look_at(self, case: str, data: np.ndarray, mask: np.ndarray, properties: dict) -> None:
        """Check one case, and note where the main field points.

        Raises:
            XModalError: for an empty mask, intensities beyond those of ppm, and axes that are not at right angles.
        """
        super().look_at(case, data, mask, properties)
        check_field(data[0], mask, case, self.field.one_ppm, self.field.unit)
        check_susceptibility(data[self.target.index], mask, case)
        self.geometries[case] = self.field.geometry(properties, data.shape[1:], self.plans_manager.transpose_forward)

    def augmentation(self) -> tuple[list[int], ComposeTransforms | None]:
        """Return the size of patches with a margin for the rotation; everything else is done on the device."""
        directions = [geometry.direction for geometry in self.geometries.values()]
        self.inference_allowed_mirroring_axes = mirror_axes(directions) if self.mirroring else ()
        ratios = [geometry.spacing[1] / geometry.spacing[2] for geometry in self.geometries.values()]
        ratio = max(max(ratio, 1 / ratio) for ratio in ratios)
        return size_before_rotation(self.configuration_manager.patch_size, self.rotation, ratio), None

    def on_train_start(self) -> None:
        """Log the unit and the mirrored axes before the first epoch."""
        super().on_train_start()
        axes = [("z", "y", "x")[axis] for axis in self.inference_allowed_mirroring_axes]
        self.print_to_log_file(f"Field in {self.field.unit}; mirrored along: {', '.join(axes) or 'no axis'}")

    def patches(self, batch: dict) -> FieldPatches:
        """Put a batch on the device, with the field in ppm and where the main field points."""
        patches = super().patches(batch)
        geometries = [self.geometries[key] for key in patches.keys]
        spacing, direction = (
            torch.tensor(vectors, dtype=torch.float32, device=self.device) for vectors in zip(*geometries)
        )
        inputs = torch.cat((patches.inputs[:, :1] / self.field.one_ppm, patches.inputs[:, 1:]), 1)
        return FieldPatches(inputs, patches.target, patches.mask, patches.keys, spacing, direction)

    def augmented(self, patches: Patches) -> FieldPatches:
        """Mirror and rotate the patches of a training step, and the main field with them."""
        assert isinstance(patches, FieldPatches)  # `patches` makes no others
        volumes = torch.cat((patches.inputs, patches.target, patches.mask), 1)
        direction = patches.direction
        for axis in self.inference_allowed_mirroring_axes or ():
            chosen = (torch.rand(len(volumes)) < 0.5).to(self.device)
            volumes = torch.where(chosen.view(-1, 1, 1, 1, 1), volumes.flip(axis + 2), volumes)
            sign = torch.ones_like(direction)
            sign[chosen, axis] = -1
            direction = direction * sign
        largest = np.deg2rad(self.rotation)
        angle = ((2 * torch.rand(len(volumes)) - 1) * largest).to(self.device)
        size, index = self.configuration_manager.patch_size, self.target.index
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

    def losses(self, prediction: torch.Tensor, patches: Patches) -> dict[str, torch.Tensor]:
        """Return the total, and its three terms without their weights; in ppm, the gradient in ppm/mm."""
        assert isinstance(patches, FieldPatches)
        field = patches.inputs[:, :1] if self.against_measured_field else None
        terms = self.loss(prediction[:, :1], patches.target, patches.mask, patches.spacing, patches.direction, field)
        return {"loss": terms.total, "L1": terms.l1, "model": terms.model, "gradient": terms.gradient}


class nnUNetTrainerQSMFA(nnUNetTrainerQSM):
    """Folded attention at the bottom.

    Attributes:
        residual_beta: steps are z + β·A z with β starting at 0, as the paper's number of parameters has it.
        invert_channel: see FoldedAttention.
    """

    residual_beta = True
    invert_channel = False

    @classmethod
    def attention(cls) -> SkipAttention:
        """Return what makes folded attention at the bottom."""
        block = partial(FoldedAttention, residual_beta=cls.residual_beta, invert_channel=cls.invert_channel)
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
