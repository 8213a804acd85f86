import pytest
from nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners import (
    nnUNetPlannerResEncM,
)

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import PLANNERS, planner_class


def test_our_planners_and_nnunets_are_found_by_name():
    for name in PLANNERS:
        assert planner_class(name).__name__ == name
    assert planner_class("nnUNetPlannerResEncM") is nnUNetPlannerResEncM


def test_an_unknown_planner_lists_the_known_ones():
    with pytest.raises(
        XModalError, match="there is no planner Plan9; known are XModalPlanner, .*ExperimentPlanner, .*ResEncM"
    ):
        planner_class("Plan9")
