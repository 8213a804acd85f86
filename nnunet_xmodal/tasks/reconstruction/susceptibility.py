"""Susceptibility maps of field maps in any unit, whatever way the main field runs."""

from collections.abc import Sequence

import torch
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.physics.measured_field import MeasuredField, direction_in_array, mirror_axes
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.reconstruction.checks import check_field
from nnunet_xmodal.tasks.reconstruction.options import SusceptibilityOptions
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

    @property
    def field(self) -> MeasuredField:
        """Return the field's unit and direction: those of `predict_folder`'s options, else of the training data."""
        return self._field or MeasuredField.of_entry(self.plans_manager.plans["xmodal"].get("field"))

    def predict_folder(self, request: PredictionRequest) -> None:
        """Map every case.

        Raises:
            XModalError: as ReconstructionPredictor; also for a unit without the numbers that it needs, and a field far
                beyond what ppm of a local field are.
        """
        options = self.options
        self._field = self.field.with_flags(options.field_unit, options.B0, options.TE, options.b0_direction)
        super().predict_folder(request)

    def check_case(self, case: CaseToReconstruct) -> None:
        """Check the mask, direction and unit of a case's field."""
        super().check_case(case)
        reader = self.plans_manager.image_reader_writer_class()
        field, properties = reader.read_images([str(case.images[0])])
        try:
            direction_in_array(properties, self.field.direction)
        except XModalError as error:
            raise XModalError(f"{case.images[0]}: {error}") from error
        if case.mask is None:
            mask = create_nonzero_mask(field)
        else:
            mask = inside_mask(reader.read_seg(str(case.mask))[0][0])
        check_field(field[0], mask, str(case.images[0]), self.field.one_ppm, self.field.unit)

    def begin(self, properties: dict) -> None:
        """Choose the axes of mirroring."""
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
        return super().predict_sliding_window_return_logits(in_ppm)
