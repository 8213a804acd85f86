"""Options of planners: declared by the planner that takes them, and refused by all others."""

from dataclasses import fields

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import PLANNERS, planner_class
from nnunet_xmodal.planners.own_planner import OPTIONS_OF_NNUNET, OwnPlanner, declared_by
from nnunet_xmodal.planning import check_planner
from nnunet_xmodal.planning_request import PlanRequest

GIVEN = {
    "streams": ["T1", "T2"],
    "iso_compute": True,
    "patch": [32, 64, 64],
    "base_width": 16,
    "grid": [16, 32, 32],
    "size": [64],
    "field_unit": "ppm",
    "B0": 3.0,
    "TE": 0.02,
    "b0_direction": [0, 0, 1],
}
STOCK = ("ExperimentPlanner", "nnUNetPlannerResEncM")


def test_every_option_is_a_field_of_the_request_that_is_left_out_by_default():
    declared = {option for name in PLANNERS for option in planner_class(name).own_options}
    assert declared == set(GIVEN)
    defaults = {field.name: field.default for field in fields(PlanRequest)}
    assert {defaults[option] for option in declared} == {None}


@pytest.mark.parametrize("name", [*PLANNERS, *STOCK])
@pytest.mark.parametrize("option", GIVEN)
def test_a_planner_takes_its_own_options_alone(name, option):
    taken = declared_by(planner_class(name)).own_options
    assert name not in STOCK or taken == OPTIONS_OF_NNUNET
    request = PlanRequest([4], name, **{option: GIVEN[option]})
    if option in taken:
        return check_planner(request)
    with pytest.raises(XModalError) as refused:
        check_planner(request)
    planners = ", ".join(other for other in PLANNERS if option in planner_class(other).own_options)
    others = ", or one of nnU-Net's own" if option in OPTIONS_OF_NNUNET else ""
    assert str(refused.value) == f"--{option} does not apply to {name}: take one of {planners}{others}."


@pytest.mark.parametrize(
    "option, value", [("B0", 0.0), ("TE", 0.0), ("iso_compute", False), ("grid", []), ("streams", [])]
)
def test_an_option_counts_as_given_whatever_its_value(option, value):
    with pytest.raises(XModalError, match=f"--{option} does not apply to FewShotPlanner"):
        check_planner(PlanRequest([4], "FewShotPlanner", **{option: value}))


def test_planners_of_nnunet_declare_nothing():
    assert declared_by(planner_class("ExperimentPlanner")) is OwnPlanner
    assert declared_by(planner_class("XModalPlanner")) is planner_class("XModalPlanner")


@pytest.mark.parametrize("name", ["RegistrationPlanner", "ReconstructionPlanner", "ReconstructionUNetPlanner"])
def test_unlabelled_cases_are_refused_where_every_case_needs_a_label(name):
    with pytest.raises(XModalError, match=f"{name} needs a label in every case: leave --unlabelled out"):
        check_planner(PlanRequest([4], name, unlabelled=True))
    check_planner(PlanRequest([4], "FewShotPlanner", unlabelled=True))
