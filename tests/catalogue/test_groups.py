"""Groups of trainers: what they stand for, and who tells it."""

from pathlib import Path

import pytest

from nnunet_xmodal import trainers
from nnunet_xmodal.catalogue.groups import GROUPS, expanded
from nnunet_xmodal.commands import compare, crossval
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.errors import XModalError


@pytest.mark.parametrize("group", GROUPS)
def test_members_are_trainers_and_named_once(group):
    assert set(GROUPS[group]) <= {*trainers.TRAINERS, "nnUNetTrainer"}
    assert len(set(GROUPS[group])) == len(GROUPS[group])


def test_a_group_is_its_members_of_one_length_and_names_stand_once():
    names = ["nnUNetTrainerFA", "mine", "@attention", "@few_shot_5epochs"]
    attention, few_shot = GROUPS["attention"], [f"{name}_5epochs" for name in GROUPS["few_shot"]]
    assert expanded(names) == (*names[:2], *(name for name in attention if name != "nnUNetTrainerFA"), *few_shot)
    assert expanded(["a", "a"]) == ("a", "a")  # which requests refuse


@pytest.mark.parametrize("name", ["@fusio", "@", "@fusion5epochs", "@few"])
def test_another_group_is_a_sentence(name):
    with pytest.raises(XModalError, match=f"-tr {name} is no group of trainers: take one of @fusion, @attention"):
        expanded([name])


def test_requests_and_help_know_them(capsys):
    for request in (
        CrossvalRequest(dataset=1, configurations=["2d"], trainers=["@registration"]),
        ComparisonRequest(output=Path("report"), trainers=["@registration"]),
    ):
        assert request.trainers == GROUPS["registration"]
    for command in (crossval, compare):
        shown = " ".join(command.parser().format_help().split())
        assert all(f"-tr @{group} is: {' '.join(names)}" in shown for group, names in GROUPS.items())
