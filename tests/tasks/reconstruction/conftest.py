"""Predictions without their figures."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from field_predictions import OBLIQUE, ORIGIN, SHAPE, SPACING, Scaled
from figures import one_pixel
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.physics.measured_field import MeasuredField
from nnunet_xmodal.tasks.reconstruction import predictor, validation
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.tasks.reconstruction.susceptibility import SusceptibilityPredictor


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A pixel for every figure, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        for module in (predictor, validation):
            monkeypatch.setattr(module, "draw_planes", one_pixel)


@pytest.fixture
def make_predictor(make_plans):
    def make(
        network=None, kind=SusceptibilityPredictor, channels=2, axes=(), field=None, std=0.02, **xmodal
    ) -> ReconstructionPredictor:
        plans = make_plans(3, channels=channels, patch_size=(8, 8, 8))
        plans["xmodal"] = {"target_channel": channels - 1, "outputs": 1, **xmodal}
        plans["xmodal"] |= {} if field is None else {"field": field}
        one_ppm = MeasuredField.of_entry(field).one_ppm
        plans["foreground_intensity_properties_per_channel"]["0"]["std"] = std * one_ppm
        configuration = plans["configurations"]["3d_fullres"]
        configuration["normalization_schemes"] = ["NoNormalization"] * channels
        configuration["spacing"] = list(SPACING[::-1])
        network = network or Scaled()
        manager = PlansManager(plans)
        names = ["field", "magnitude", "susceptibility"][: channels - 1] + ["susceptibility"]
        dataset_json = {
            "channel_names": {str(number): name for number, name in enumerate(names)},
            "labels": {"background": 0, "brain": 1},
            "numTraining": 5,
            "file_ending": ".nii.gz",
        }
        predictor = kind(device=torch.device("cpu"), allow_tqdm=False)
        described = manager, manager.get_configuration("3d_fullres"), [network.state_dict()], dataset_json
        predictor.manual_initialization(network, *described, "nnUNetTrainerQSM", axes)
        return predictor

    return make


@pytest.fixture
def write(tmp_path):
    """`(name, array, direction)` → file in the folder of inputs or another."""

    def write(name, array, direction=OBLIQUE, folder="in"):
        (tmp_path / folder).mkdir(exist_ok=True)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(SPACING), image.SetOrigin(ORIGIN), image.SetDirection(np.ravel(direction).tolist())
        sitk.WriteImage(image, str(tmp_path / folder / name))

    return write


@pytest.fixture
def field():
    """Zeros around a brain, as a local field has them."""
    volume = np.zeros(SHAPE, np.float32)
    volume[1:-1, 3:-2, 2:-3] = 0.02 * np.random.default_rng(0).standard_normal((7, 15, 9))
    return volume
