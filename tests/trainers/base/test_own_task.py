"""Trainers with a task of their own train on plans of its planner."""

import pytest

from nnunet_xmodal.errors import XModalError


@pytest.mark.parametrize(
    "name, dimensions, channels, message",
    [
        ("nnUNetTrainerFeatureReg", 3, 2, "fixed grid, which the plans nnUNetPlans do not have: .*RegistrationPlanner"),
        ("nnUNetTrainerQSM", 3, 2, "the plans nnUNetPlans name no target channel: .*-pl ReconstructionPlanner"),
        (
            "nnUNetTrainerCRTPR18", 2, 1,
            "support sets, which the plans nnUNetPlans do not have: .* -pl FewShotPlanner and train",
        ),
    ],
)  # fmt: skip
def test_plans_of_segmentation_are_refused(make_trainer, make_plans, name, dimensions, channels, message):
    with pytest.raises(XModalError, match=message):
        make_trainer(name, make_plans(dimensions, channels=channels))
