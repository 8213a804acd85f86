"""What a prediction makes of the field: inversions as inputs, consistency, what maps are counted from, remarks."""

import numpy as np
import pytest
import torch
from field_predictions import CROP, OBLIQUE, SHAPE, SPACING, Scaled, read
from torch import nn

from nnunet_xmodal.physics.consistency import consistent
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.field_inputs import FieldInputs
from nnunet_xmodal.physics.measured_field import FieldGeometry
from nnunet_xmodal.physics.units import one_ppm_in

ALONG = tuple(field_direction(OBLIQUE))


class Channel(nn.Module):
    """Returns one channel of what it reads, and what it has seen."""

    def __init__(self, number, power=1):
        super().__init__()
        self.number, self.power, self.seen = number, power, []

    def forward(self, x):
        self.seen.append(x)
        return x[:, self.number : self.number + 1] ** self.power


@pytest.mark.parametrize("number", [0, 2])
def test_inversions_are_of_the_whole_case_whatever_the_tiles(make_predictor, write, field, tmp_path, run, number):
    inputs = FieldInputs(iterations=5)
    network = Channel(1 + number)
    write("anna_0000.nii.gz", field * np.float32(one_ppm_in("Hz", 3.0)))
    made_of = {"field": {"unit": "Hz", "B0": 3.0}, "field_inputs": inputs.as_entry()}
    run(make_predictor(network, **made_of))
    expected = np.zeros(SHAPE, np.float32)
    expected[CROP] = inputs.of_field(field[CROP], FieldGeometry(SPACING[::-1], ALONG))[number]
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), expected, rtol=1e-3, atol=1e-6)
    assert len(network.seen) > 4 and network.seen[0].shape == (1, 10, 8, 8, 8)
    told = inputs.of_direction(torch.tensor([ALONG]), (8, 8, 8)).float()
    torch.testing.assert_close(network.seen[0][:, 4:].float(), told, rtol=1e-5, atol=1e-6)


def test_a_network_that_learnt_both_signs_answers_the_reverse_with_the_reverse(
    make_predictor, write, field, tmp_path, run
):
    write("anna_0000.nii.gz", field)
    for odd, averaged, expected in ((True, True, 0), (False, True, field**2), (True, False, field**2)):
        entry = FieldInputs(iterations=1, odd=odd).as_entry()
        predictor = make_predictor(Channel(0, power=2), field_inputs=entry)  # an even function has no odd part
        predictor.use_mirroring = averaged
        run(predictor)
        made = read(tmp_path / "out" / "anna.nii.gz")
        np.testing.assert_allclose(made, np.broadcast_to(expected, SHAPE), atol=1e-9)
    network = Channel(0, power=2)
    write("anna_0001.nii.gz", np.where(field != 0, 700, 0).astype(np.float32))
    run(make_predictor(network, channels=3, field_inputs=FieldInputs(iterations=1).as_entry()))
    forward, reverse = network.seen[:2]
    torch.testing.assert_close(reverse[:, [0, 2, 3, 4]], -forward[:, [0, 2, 3, 4]])  # field and inversions
    torch.testing.assert_close(reverse[:, [1, *range(5, 11)]], forward[:, [1, *range(5, 11)]])  # magnitude, direction


def test_a_consistent_map_explains_the_field(make_predictor, write, field, tmp_path, run):
    write("anna_0000.nii.gz", field)
    run(make_predictor(Scaled(2.0)), "--consistency", 0.1)
    given, measured = torch.from_numpy(2 * field[CROP])[None, None], torch.from_numpy(field[CROP])[None, None]
    expected = np.zeros(SHAPE, np.float32)
    inside = torch.ones_like(measured)
    expected[CROP] = consistent(given, measured, inside, SPACING[::-1], ALONG, lam=0.1)[0, 0].numpy()
    made = read(tmp_path / "out" / "anna.nii.gz")
    np.testing.assert_allclose(made, expected, rtol=1e-3, atol=1e-5)
    assert np.abs(made - 2 * field).max() > 0.005


def test_maps_are_counted_from_a_region_or_from_their_mean(make_predictor, write, field, tmp_path, run):
    region = np.zeros(SHAPE, np.uint8)
    region[3:5, 6:9, 5:8] = 1
    region[0] = 1  # beyond the brain nothing counts
    write("anna_0000.nii.gz", field), write("anna.nii.gz", region, folder="regions")
    inside = field != 0
    for flag, mean in ((tmp_path / "regions", field[(region > 0) & inside].mean()), ("mask", field[inside].mean())):
        run(make_predictor(), "--reference_region", flag)
        expected = np.where(inside, field - mean, 0)
        np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), expected, atol=1e-6)


def test_a_head_that_lies_otherwise_is_told(make_predictor, write, field, tmp_path, run, capsys):
    write("anna_0000.nii.gz", field)
    trained = [list(ALONG), [1.0, 0.0, 0.0]]
    run(make_predictor(directions=trained))
    assert "remark" not in capsys.readouterr().err
    run(make_predictor(directions=[[0.0, 0.0, 1.0]]))
    degrees = np.rad2deg(np.arccos(abs(ALONG[2])))
    assert f"the main field of {tmp_path}/in/anna_0000.nii.gz is {degrees:.0f}° from" in capsys.readouterr().err


@pytest.mark.parametrize("factor", [4.0, 0.25])
def test_a_field_that_is_unlike_the_trainings_gets_a_remark(
    make_predictor, write, field, tmp_path, run, capsys, factor
):
    write("anna_0000.nii.gz", np.float32(factor) * field)
    run(make_predictor())
    assert "look whether unit, B0 and TE are its own" in capsys.readouterr().err
