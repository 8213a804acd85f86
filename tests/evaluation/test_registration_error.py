"""Errors of registrations against what they are by definition, and one harness for all methods."""

import json

import pytest
import torch

from nnunet_xmodal.evaluation.registration_error import registration_error, warped_dice
from nnunet_xmodal.files.labels import organ_key
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.tasks.registration.by_network import ByNetwork, InTurn
from nnunet_xmodal.tasks.registration.method import RegistrationMethod
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations
from nnunet_xmodal.tasks.registration.training_cases import CaseOnGrid
from nnunet_xmodal.tasks.registration.validation import Starts, measure_case, validate_registration

SHAPE, SPACING = (16, 24, 24), (3.0, 2.0, 2.0)
LABEL = torch.zeros(SHAPE)
LABEL[4:12, 6:18, 8:16] = 1
POINTS = surface_points(LABEL, SPACING)


def matrix(*parameters):
    return rigid_transform.matrix(torch.tensor(parameters, dtype=torch.float64))


def test_the_truth_has_no_error():
    truth = matrix(3.0, -4.0, 5.0, 10.0, -20.0, 30.0)
    errors = registration_error(truth[None], POINTS, truth)
    assert all(value.abs().max() < 1e-6 for value in errors.values())
    assert warped_dice(LABEL[None], LABEL[None], torch.eye(4)[None], torch.tensor(SPACING)) == 1


def test_a_translation_is_its_own_length_wherever_the_truth_lies():
    for truth in (None, matrix(3.0, -4.0, 5.0, 10.0, -20.0, 30.0)):
        found = matrix(2.0, 3.0, -6.0, 0.0, 0.0, 0.0)
        found = found if truth is None else found @ truth
        errors = registration_error(found, POINTS, truth)
        assert errors["translation_error_mm"] == pytest.approx(7)
        assert errors["SRE_mm"] == pytest.approx(7)
        assert errors["rotation_error_deg"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("axis", range(3))
def test_a_rotation_is_its_angle(axis):
    parameters = [0.0] * 6
    parameters[3 + axis] = -25.0
    errors = registration_error(matrix(*parameters), POINTS)
    assert errors["rotation_error_deg"] == pytest.approx(25)
    assert errors["translation_error_mm"] == 0 and errors["SRE_mm"] > 1


def test_dice_of_whole_voxels():
    """Two of eight slices out, two of twelve rows: what is left over what there was."""
    spacing = torch.tensor(SPACING)
    shifts = torch.stack([matrix(0.0, 0.0, 6.0, 0.0, 0.0, 0.0), matrix(0.0, -4.0, 0.0, 0.0, 0.0, 0.0)]).float()
    dice = warped_dice(LABEL[None], LABEL[None], shifts, spacing)
    torch.testing.assert_close(dice, torch.tensor([6 / 8, 10 / 12], dtype=torch.float64))


@pytest.fixture
def case():
    fixed, moving = (100 * LABEL)[None], 50 * (1 - LABEL)[None]
    return CaseOnGrid(fixed, moving, LABEL[None], POINTS, torch.tensor(SPACING, dtype=torch.float64), None)


class Found(RegistrationMethod):
    """Finds one matrix from everywhere, or stays where it began, in a time that it says itself."""

    def __init__(self, seconds, matrix=None):
        self.seconds, self.matrix = seconds, matrix

    def find(self, fixed, moving, spacing, base):
        return base if self.matrix is None else self.matrix

    def __call__(self, *arguments):
        return super().__call__(*arguments)._replace(seconds=self.seconds)


STANDING_STILL = Found(0.25)


def test_a_case_is_the_mean_over_its_starts(case):
    metrics, starts = measure_case(STANDING_STILL, "case", case, Starts((0.0, 20.0), 12, (8.0, 16.0), 3))
    assert metrics["SRE_mm"] == pytest.approx(metrics["SRE_before_mm"])
    assert metrics["SRE_from_8mm_mm"] == pytest.approx(8, abs=0.01)
    assert metrics["SRE_from_16mm_mm"] == pytest.approx(16, abs=0.01)
    assert metrics["seconds"] == 0.25 and 0 < metrics["Dice"] < 1
    drawn = rigid_transform.matrix(fixed_perturbations("case", POINTS, (0.0, 20.0), 12))
    expected = registration_error(drawn, POINTS)
    assert starts["SRE_before_mm"] == expected["SRE_mm"].tolist()
    assert metrics["rotation_error_deg"] == pytest.approx(expected["rotation_error_deg"].mean().item())
    assert [len(values) for values in starts.values()] == [12, 12, 3, 3]


def test_a_perfect_method_is_perfect(case):
    metrics, _ = measure_case(Found(0.5, torch.eye(4, dtype=torch.float64)), "case", case, Starts(count=3))
    assert metrics["SRE_mm"] == metrics["translation_error_mm"] == metrics["rotation_error_deg"] == 0
    assert metrics["Dice"] == 1 and metrics["SRE_before_mm"] > 0


class Remembers(torch.nn.Module):
    """A network that always answers the same and keeps what it read."""

    def __init__(self, *answer):
        super().__init__()
        self.answer, self.read = torch.tensor(answer), []

    def forward(self, x, spacing):
        self.read.append(x)
        return self.answer.expand(len(x), 6)


@pytest.mark.parametrize("fixed_is_label", [False, True])
def test_all_starts_at_once_are_the_same_as_one_after_the_other(case, fixed_is_label):
    network = Remembers(1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    method = ByNetwork(network, torch.device("cpu"), fixed_is_label, batch_size=4)
    starts = Starts(count=7)
    together, _ = measure_case(method, "case", case, starts)
    read = torch.cat(network.read)
    assert [len(x) for x in network.read] == [4, 3] and read.amin() == 0 and read.amax() == 1
    network.read.clear()

    class Alone(RegistrationMethod):
        find = staticmethod(method.find)

    alone = Alone()
    alone.fixed_is_label = fixed_is_label
    one_by_one, _ = measure_case(alone, "case", case, starts)
    torch.testing.assert_close(torch.cat(network.read), read)
    assert all(together[name] == pytest.approx(one_by_one[name]) for name in together if name != "seconds")


def test_methods_in_turn_compose():
    first, second = (ByNetwork(Remembers(*answer), torch.device("cpu")) for answer in ([1.0] * 6, [-2.0] * 6))
    base = matrix(5.0, 0.0, 0.0, 0.0, 3.0, 0.0)
    found = InTurn(first, second)(LABEL, LABEL, SPACING, base)
    expected = matrix(*[-2.0] * 6) @ matrix(*[1.0] * 6) @ base
    torch.testing.assert_close(found.matrix, expected)
    assert found.seconds > 0


class Cases:
    class dataset:
        source_folder = "somewhere"

    def __init__(self, case):
        self.case, self.identifiers = case, ["one", "two"]

    def cut(self, name):
        return self.case


def test_summary_by_the_contract(case, tmp_path, make_dataset_json):
    lines = []
    starts = Starts(count=3, exact=(8.0,), exact_count=2)
    means = validate_registration(STANDING_STILL, Cases(case), make_dataset_json(), tmp_path, starts, lines.append)
    assert lines == ["predicting one", "predicting two"]
    summary = json.loads((tmp_path / "validation" / "summary.json").read_text())
    assert summary["mean"] == {"(1, 2)": means} and summary["foreground_mean"] == means
    assert [list(content["metrics"]) for content in summary["metric_per_case"]] == [["(1, 2)"]] * 2
    directions = summary["xmodal"]["directions"]
    assert set(means) - set(directions) == {"SRE_before_mm"}
    assert {name for name, better in directions.items() if better == "higher"} == {"Dice"}


def test_the_key_is_the_label_or_all_labels(make_dataset_json):
    assert organ_key({"labels": {"background": 0, "prostate": 1, "ignore": 2}}) == "1"
    assert organ_key(make_dataset_json("regions")) == "(1, 2)"
