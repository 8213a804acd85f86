"""Predictors whose networks know the answer, and the folder that they read."""

import pytest
import SimpleITK as sitk
import torch
from figures import one_pixel
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from registration_pairs import GRID, SPACING, Known

from nnunet_xmodal.tasks.registration import predictor as module
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A pixel for every checkerboard, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(module, "draw_checkerboards", one_pixel)


@pytest.fixture
def make_predictor(make_plans, monkeypatch):
    """`(*answers or networks, spacing)` → predictor; several answers are folds."""
    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", False)
    monkeypatch.setattr(RegistrationPredictor, "turns_about_corner", False)

    def make(*answers, network=None, spacing=SPACING[::-1], grid=GRID):
        plans = make_plans(3, channels=2, patch_size=grid)
        configuration = plans["configurations"]["3d_fullres"]
        configuration |= {"spacing": list(spacing), "normalization_schemes": ["NoNormalization"] * 2}
        for what in ("data", "seg", "probabilities"):
            configuration[f"resampling_fn_{what}_kwargs"] |= {"order": 3, "force_separate_z": False}
        dataset_json = {
            "channel_names": {"0": "MR", "1": "US"},
            "labels": {"background": 0, "organ": 1, "ignore": 2},
            "file_ending": ".nii.gz",
        }
        network = network or Known()
        states = [Known(answer).state_dict() for answer in answers] or [network.state_dict()]
        manager = PlansManager(plans)
        predictor = RegistrationPredictor(
            device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False
        )
        predictor.manual_initialization(
            network, manager, manager.get_configuration("3d_fullres"), states, dataset_json,
            "nnUNetTrainerAttentionReg", None,
        )  # fmt: skip
        return predictor

    return make


@pytest.fixture
def write(tmp_path):
    (tmp_path / "in").mkdir()

    def write(fixed, moving, case="anna"):
        for channel, image in enumerate((fixed, moving)):
            sitk.WriteImage(image, str(tmp_path / "in" / f"{case}_{channel:04d}.nii.gz"))

    return write
