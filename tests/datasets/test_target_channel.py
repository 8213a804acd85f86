"""A target belongs to no stream, and plans say how many channels are read and put out."""

import pytest

from nnunet_xmodal.datasets.streams import streams_of
from nnunet_xmodal.datasets.target_channel import TargetChannel, input_names
from nnunet_xmodal.errors import XModalError


def test_it_travels_in_the_plans():
    target = TargetChannel(2, outputs=3)
    assert TargetChannel.of_plans({"xmodal": target.as_plans()}, "any") == target
    assert input_names(["a", "b", "c"], {"xmodal": target.as_plans()}) == ["a", "b"]
    assert input_names(["a", "b", "c"], {}) == ["a", "b", "c"]


def test_plans_without_a_target_are_a_sentence():
    with pytest.raises(
        XModalError, match="nnUNetTrainerQSM learns an image, and the plans nnUNetPlans .* -pl ReconstructionPlanner"
    ):
        TargetChannel.of_plans({"plans_name": "nnUNetPlans"}, "nnUNetTrainerQSM")


@pytest.mark.parametrize("at_training", [True, False])
def test_streams_never_include_the_target(make_plans, make_dataset_json, at_training):
    plans = make_plans(3, channels=3)
    plans["xmodal"] = TargetChannel(2).as_plans()
    dataset_json = make_dataset_json(channels=3) if at_training else None
    assert streams_of(plans, {}, dataset_json) == [[0], [1]]
    plans["xmodal"]["streams"] = [[1, 0]]
    assert streams_of(plans, {}, dataset_json) == [[1, 0]]
    plans["xmodal"]["streams"] = [[0], [1, 2]]
    with pytest.raises(XModalError, match="unknown channel 2; known are 0 .*, 1 "):
        streams_of(plans, {}, dataset_json)


def test_streams_of_dataset_json_are_those_of_the_inputs(make_plans, make_dataset_json):
    plans = make_plans(3, channels=3)
    plans["xmodal"] = TargetChannel(2).as_plans()
    dataset_json = make_dataset_json(channels=3) | {"xmodal": {"streams": [["T1c", "T1"]]}}
    assert streams_of(plans, {}, dataset_json) == [[1, 0]]
