"""Susceptibility maps of field maps in any unit, whatever way the main field runs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask

from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.physics.consistency import consistent
from nnunet_xmodal.physics.field_inputs import FieldInputs, known_voxels, magnitude_channel, trust
from nnunet_xmodal.physics.measured_field import FieldGeometry, MeasuredField, direction_in_array, mirror_axes
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.reconstruction.checks import (
    check_ends_with_mask,
    check_field,
    check_like_training,
    check_mask,
    tell_of_angle,
)
from nnunet_xmodal.tasks.reconstruction.options import WHOLE_MASK, SusceptibilityOptions
from nnunet_xmodal.tasks.reconstruction.predictor import CaseToReconstruct, ReconstructionPredictor


class SusceptibilityPredictor(ReconstructionPredictor):
    """Maps in ppm of fields in ppm, Hz or radians: by default in the unit of the training data.

    Mirrored copies are averaged along the axes that leave the main field alone in all training cases (the checkpoint
    knows them) and in the case itself: a field mirrored otherwise is one of another direction.
    """

    options_class = SusceptibilityOptions
    options = SusceptibilityOptions()
    unit = "ppm"

    _field: MeasuredField | None = None
    _axes_of_training: Sequence[int] | None = None
    _properties: dict
    _inversions: np.ndarray | None = None  # of the case at hand, for all folds
    _direction: torch.Tensor  # likewise, (1, 3)

    @property
    def field(self) -> MeasuredField:
        """Return the field's unit and direction: those of `predict_folder`'s options, else of the training data."""
        return self._field or MeasuredField.of_entry(self.plans_manager.plans["xmodal"].get("field"))

    @property
    def field_inputs(self) -> FieldInputs | None:
        """Return what the network reads beside the files' channels, None for models of the field alone."""
        return FieldInputs.of_entry(self.plans_manager.plans["xmodal"].get("field_inputs"))

    def predict_folder(self, request: PredictionRequest) -> None:
        """Map every case.

        Raises:
            XModalError: as ReconstructionPredictor; also for a unit without the numbers that it needs, a field far from
                those of the training, a λ that is not above 0, and regions of reference that are missing or empty.
        """
        options = self.options
        self._field = self.field.with_flags(options.field_unit, options.B0, options.TE, options.b0_direction)
        if options.consistency is not None and not options.consistency > 0:
            raise XModalError(f"--consistency must be above 0, and is {options.consistency}.")
        super().predict_folder(request)

    def check_case(self, case: CaseToReconstruct) -> None:
        """Check the mask, direction and unit of a case's field, and its region of reference."""
        super().check_case(case)
        reader = self.plans_manager.image_reader_writer_class()
        field, properties = reader.read_images([str(case.images[0])])
        try:
            direction = direction_in_array(properties, self.field.direction)
        except XModalError as error:
            raise XModalError(f"{case.images[0]}: {error}") from error
        if case.mask is None:
            mask = create_nonzero_mask(field)
        else:
            mask = inside_mask(reader.read_seg(str(case.mask))[0][0])
        name = str(case.images[0])
        check_field(field[0], mask, name, self.field.one_ppm, self.field.unit)
        if case.mask is not None:
            check_ends_with_mask(field[0], mask, name, str(case.mask))
        check_like_training(field[0] / self.field.one_ppm, mask, name, self._deviation(), self.field.unit)
        along = direction[list(self.plans_manager.transpose_forward)]
        tell_of_angle(along.tolist(), self.plans_manager.plans["xmodal"].get("directions"), name)
        region = self._region_file(case)
        if region is not None:
            check_mask(region, case.images[0], self.dataset_json, "--reference_region")
            if not (inside_mask(reader.read_seg(str(region))[0][0]) & mask).any():
                raise XModalError(f"{region} has no voxel inside the mask of {case.name}: draw it within the brain.")

    def _region_file(self, case: CaseToReconstruct) -> Path | None:
        """The region of reference of a case, None without a folder of them."""
        reference = self.options.reference_region
        if reference in (None, WHOLE_MASK):
            return None
        return Path(reference) / f"{case.name}{self.dataset_json['file_ending']}"

    def _deviation(self) -> float | None:
        """Standard deviation of the training's fields in ppm; None where the plans have none."""
        plans = self.plans_manager.plans
        deviation = plans["foreground_intensity_properties_per_channel"]["0"].get("std")
        return deviation and deviation / MeasuredField.of_entry(plans["xmodal"].get("field")).one_ppm

    def begin(self, properties: dict) -> None:
        """Choose the axes of mirroring."""
        self._properties, self._inversions = properties, None
        if self._axes_of_training is None:
            self._axes_of_training = tuple(self.allowed_mirroring_axes or ())
        along = direction_in_array(properties, self.field.direction)
        of_case = mirror_axes([along[list(self.plans_manager.transpose_forward)].tolist()])
        self.allowed_mirroring_axes = tuple(axis for axis in self._axes_of_training if axis in of_case)

    @torch.inference_mode()
    def predict_sliding_window_return_logits(self, input_image: torch.Tensor) -> torch.Tensor:
        """Map `(C, *spatial)`, with the field in its unit as channel 0, to `(outputs, *spatial)` in ppm."""
        in_ppm = input_image.float().clone()
        in_ppm[0] /= self.field.one_ppm
        names = channel_names_of(self.dataset_json)[: len(in_ppm)]
        magnitude = magnitude_channel(names)
        weight = None if magnitude is None else in_ppm[magnitude]
        inputs, whole = self.field_inputs, in_ppm
        if inputs is not None:
            geometry = self._geometry(in_ppm)
            if self._inversions is None:
                self._inversions = inputs.of_field(in_ppm[0].cpu().numpy(), geometry, weight, self._whole_case_on)
            self._direction = torch.tensor([geometry.direction])
            whole = torch.cat((in_ppm, torch.from_numpy(self._inversions).to(in_ppm)))
        images = super().predict_sliding_window_return_logits(whole)
        if self.options.consistency is not None:
            images = self._consistent(images, in_ppm[0], weight, self.options.consistency)
        return images

    @property
    def _whole_case_on(self) -> torch.device:
        """Where whole cases are inverted: `--not_on_device` is for those that are too large for the GPU."""
        return self.device if self.perform_everything_on_device else torch.device("cpu")

    def _geometry(self, image: torch.Tensor) -> FieldGeometry:
        return self.field.geometry(self._properties, image.shape[1:], self.plans_manager.transpose_forward)

    def _consistent(
        self, images: torch.Tensor, field: torch.Tensor, magnitude: torch.Tensor | None, lam: float
    ) -> torch.Tensor:
        """The first channel in line with the field, see `physics.consistency`."""
        inside = torch.from_numpy(known_voxels(field.cpu().numpy())).to(self._whole_case_on)[None, None]
        given, measured = (part.float().to(self._whole_case_on)[None] for part in (images[:1], field[None]))
        weight = trust(magnitude, inside)
        made = consistent(given, measured, inside, *self._geometry(field[None]), lam, weight)[0]
        return torch.cat((made.to(images), images[1:]))

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over mirrorings, and over the field and its negative where the network has learnt from both.

        The direction is told here, where tiles have their size: the mirrorings that a case allows leave it as it is.
        """
        inputs = self.field_inputs
        if inputs is None:
            return super()._internal_maybe_mirror_and_predict(x)
        direction = inputs.of_direction(self._direction.to(x), x.shape[2:])
        made = super()._internal_maybe_mirror_and_predict(torch.cat((x, direction), 1))
        if not inputs.odd or not self.use_mirroring:
            return made
        sign = torch.ones(x.shape[1], device=x.device, dtype=x.dtype)
        sign[0], sign[-len(inputs.alphas) :] = -1, -1
        reverse = torch.cat((x * sign.view(1, -1, 1, 1, 1), direction), 1)
        return (made - super()._internal_maybe_mirror_and_predict(reverse)) / 2

    def finished(self, images: np.ndarray, case: dict) -> np.ndarray:
        """Return maps that are 0 outside the mask, and counted from the region of reference."""
        images = super().finished(images, case)
        source = self._source_of(case)
        if source is None or self.options.reference_region is None:
            return images
        mask = region = self._inputs_and_mask(source)[1]
        file = self._region_file(source)
        if file is not None:
            region = inside_mask(self.plans_manager.image_reader_writer_class().read_seg(str(file))[0][0])
        return np.where(mask, images - images[:, region & mask].mean(1)[:, None, None, None], 0)
