"""The transform that is written, for networks whose answer is known."""

import json
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import one_fast_in
from registration_pairs import (
    ANSWER,
    BLOBS,
    CENTRE,
    DIRECTIONS,
    GRID,
    OBLIQUE,
    SIZE,
    SPACING,
    applied,
    assert_same_transform,
    fixed_of,
    mark,
    moving_of,
    resampling_matrix,
    rows,
    written,
)

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import euler_transform, physical_matrix
from nnunet_xmodal.tasks.registration.grid import GridCutter
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.registration.surroundings import amid


def inner(image):
    """Where both images are, well within the fixed one."""
    return sitk.GetArrayFromImage(image)[4:-4, 8:-8, 8:-8]


class ByGrid(torch.nn.Module):
    """A network that finds a shift along x of its own on every grid."""

    def __init__(self, *shifts):
        super().__init__()
        self.six = torch.zeros(len(shifts), 6)
        self.six[:, 0] = torch.tensor(shifts)

    def forward(self, x, spacing):
        assert len(x) == len(self.six)
        return self.six


@pytest.mark.parametrize("direction, init", one_fast_in(3, product(DIRECTIONS, ["none", "geometry"])))
def test_the_written_transform_resamples_the_moving_image_as_it_is(
    make_predictor, run, write, tmp_path, direction, init
):
    """Grids of other spacing, other axes and, with --init geometry, other coordinates altogether."""
    axes = DIRECTIONS[direction]
    there = np.array([400.0, -250.0, 33.0]) if init == "geometry" else CENTRE + [4, -6, 5]
    initial = np.eye(4)
    if init == "geometry":
        initial[:3, 3] = there - CENTRE
    x = resampling_matrix(ANSWER, axes, initial)
    fixed, moving = fixed_of(axes), moving_of(x, centre=there)
    write(fixed, moving)
    run(make_predictor(ANSWER), "--init", init)
    transform = written(tmp_path)
    assert_same_transform(transform, x)

    registered = sitk.ReadImage(str(tmp_path / "out" / "anna_registered.nii.gz"))
    for name in ("Size", "Spacing", "Origin", "Direction"):
        np.testing.assert_allclose(getattr(registered, f"Get{name}")(), getattr(fixed, f"Get{name}")(), atol=1e-4)
    again = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(registered), sitk.GetArrayFromImage(again), atol=1e-2)
    before = sitk.Resample(moving, fixed, euler_transform(initial, (0, 0, 0)), sitk.sitkLinear, 0.0)
    error, error_before = (np.abs(inner(image) - inner(fixed)).mean() for image in (registered, before))
    assert error < 2 and error_before > 10 * error

    (row,) = rows(tmp_path).values()
    six = [float(row[name]) for name in ("tx", "ty", "tz", "ax", "ay", "az")]
    centre = [float(row[f"centre_{axis}"]) for axis in "xyz"]
    np.testing.assert_allclose(centre, CENTRE, atol=1e-3)
    about = rigid_transform.about(torch.from_numpy(x), torch.from_numpy(CENTRE))
    np.testing.assert_allclose(six, rigid_transform.parameters(about), atol=2e-3)
    angle = rigid_transform.rotation_angle(torch.from_numpy(x)).item()
    shift = np.linalg.norm(ANSWER[:3])
    assert float(row["rotation_angle"]) == pytest.approx(angle, abs=1e-3) == float(row["found_angle"])
    assert float(row["found_displacement"]) == pytest.approx(shift, abs=1e-3)
    assert float(row["centre_displacement"]) == pytest.approx(np.linalg.norm(applied(x, CENTRE) - CENTRE), abs=1e-2)
    assert (row["init"], row["centre_from"], row["steps"]) == (init, "non-zero region", "nnUNetTrainerAttentionReg")
    assert 0 < float(row["seconds_network"]) < float(row["seconds"])


def test_a_checkerboard_is_drawn(make_predictor, run, write, tmp_path, drawn):
    """Of grids with other axes each."""
    axes = DIRECTIONS["left-handed"]
    write(fixed_of(axes), moving_of(resampling_matrix(ANSWER, axes)))
    run(make_predictor(ANSWER))
    assert (tmp_path / "out" / "anna_checkerboard.png").stat().st_size > 10_000


def test_plans_of_another_spacing(make_predictor, run, write, tmp_path):
    """Sizes are rounded in preprocessing, so the grid's voxels are neither the fixed image's nor the plans'."""
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(resampling_matrix(ANSWER, OBLIQUE)))
    predictor = make_predictor(ANSWER, spacing=(2.13, 1.37, 1.49))
    run(predictor)
    centre = np.array(sitk.Euler3DTransform(written(tmp_path)).GetCenter())
    assert np.linalg.norm(centre - CENTRE) < 1.5  # rounded to whole voxels
    assert_same_transform(written(tmp_path), resampling_matrix(ANSWER, OBLIQUE, centre=centre))


def test_the_network_sees_both_images_on_the_grid_in_one_range(make_predictor, run, write):
    fixed, moving = fixed_of(OBLIQUE), moving_of(resampling_matrix(ANSWER, OBLIQUE))
    write(fixed, moving)
    predictor = make_predictor(ANSWER)
    run(predictor)
    (x,) = predictor.network.seen
    assert x.shape == (5, 2, *GRID)  # this grid, and four that tell how sure the network is
    assert (x[0].min(), x[0].max()) == (0, 1)
    onto = sitk.Resample(moving, fixed, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    cut = [slice((side - grid) // 2, (side + grid) // 2) for side, grid in zip(SIZE[::-1], GRID)]
    both = np.stack([sitk.GetArrayFromImage(image)[tuple(cut)] for image in (fixed, onto)])
    np.testing.assert_allclose(x[0], (both - both.min()) / (both.max() - both.min()), atol=2e-4)


def test_folds_are_averaged_on_se3(make_predictor, run, write, tmp_path):
    answers = [ANSWER, (1.0, 2, 3, 170, 10, 0), (0.0, 0, 0, -170, 0, 20)]
    write(fixed_of(), moving_of(np.eye(4)))
    run(make_predictor(*answers))
    mean = rigid_transform.mean_se3(rigid_transform.matrix(torch.tensor(answers).double()))
    assert_same_transform(written(tmp_path), resampling_matrix(rigid_transform.parameters(mean).tolist(), np.eye(3)))


def test_the_second_stage_begins_where_the_first_one_ended(make_predictor, run, write, tmp_path, monkeypatch):
    """From the original moving image, interpolated once."""
    second_answer = (-2.0, 1.0, 1.5, -4.0, 3.0, 5.0)
    x1 = resampling_matrix(ANSWER, OBLIQUE)
    x = resampling_matrix(second_answer, OBLIQUE, x1)
    fixed, moving = fixed_of(OBLIQUE), moving_of(x)
    write(fixed, moving)
    second = make_predictor(second_answer)
    monkeypatch.setattr(RegistrationPredictor, "_second_stage", lambda *_: second)
    run(make_predictor(ANSWER), "--stage2", "nnUNetTrainerAttentionRegStage2")
    assert_same_transform(written(tmp_path), x)
    (seen,) = second.network.seen
    cutter = GridCutter(second.plans_manager, second.configuration_manager, second.dataset_json)
    grid = cutter(fixed, moving, euler_transform(x1, CENTRE), CENTRE)
    both = np.stack((grid.fixed, amid(grid.moving, GRID)))
    np.testing.assert_allclose(seen[0], (both - both.min()) / (both.max() - both.min()), atol=2e-4)


def test_mutual_information_refines_what_the_network_left(make_predictor, run, write, tmp_path):
    left = (2.0, -1.5, 2.0, 2.0, 3.0, -2.0)
    x1 = resampling_matrix(ANSWER, OBLIQUE)
    x = resampling_matrix(left, OBLIQUE, x1)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER), "--refine", "mi")
    points = CENTRE + BLOBS
    refined = applied(physical_matrix(written(tmp_path)), points)
    error, before = (np.linalg.norm(p - applied(x, points), axis=1).mean() for p in (refined, applied(x1, points)))
    assert before > 2.5 and error < 0.5
    assert rows(tmp_path)["anna"]["steps"] == "nnUNetTrainerAttentionReg + mutual information"


def test_the_moving_images_pixel_type_is_kept(make_predictor, run, write, tmp_path):
    write(fixed_of(), sitk.Cast(moving_of(np.eye(4)), sitk.sitkInt16))
    run(make_predictor(ANSWER))
    assert sitk.ReadImage(str(tmp_path / "out" / "anna_registered.nii.gz")).GetPixelID() == sitk.sitkInt16


def test_the_grid_lies_around_what_the_user_shows(make_predictor, run, write, tmp_path, monkeypatch):
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(np.eye(4)))
    place = np.array(fixed.TransformContinuousIndexToPhysicalPoint((15.5, 22.5, 7.5)))

    def centre(*flags):
        run(make_predictor(ANSWER), *flags)
        row = rows(tmp_path)["anna"]
        return np.array([float(row[f"centre_{axis}"]) for axis in "xyz"]), row["centre_from"]

    mark(tmp_path, "masks", fixed, (4, 19, 12), (8, 8, 8))
    of_mask, told = centre("--roi", tmp_path / "masks")
    assert told == "mask"
    np.testing.assert_allclose(of_mask, place, atol=1e-3)

    (tmp_path / "points").mkdir()
    (tmp_path / "points" / "anna.csv").write_text("x,y,z\n" + ",".join(map(str, place)) + "\n")
    of_point, told = centre("--roi", tmp_path / "points")
    assert told == "point"
    np.testing.assert_allclose(of_point, place, atol=1e-3)

    (tmp_path / "points" / "anna.csv").unlink()
    for system, sign in (({"coordinateSystem": "LPS"}, 1), ({"coordinateSystem": "RAS"}, -1), ({}, 1)):
        control = {"position": (place * (sign, sign, 1)).tolist()}
        content = {"markups": [{**system, "controlPoints": [control]}]}
        (tmp_path / "points" / "anna.mrk.json").write_text(json.dumps(content))
        np.testing.assert_allclose(centre("--roi", tmp_path / "points")[0], place, atol=1e-3)

    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    of_label, told = centre("--labels", tmp_path / "masks")
    assert told == "label"
    np.testing.assert_allclose(of_label, place, atol=1e-3)


def test_without_a_region_the_grid_lies_amid_the_fixed_images_non_zero_voxels(make_predictor, run, write, tmp_path):
    """nnU-Net's crop counts the moving image as well."""
    fixed = fixed_of()
    array = sitk.GetArrayFromImage(fixed)
    array[:, :, 24:] = 0
    lesser = sitk.GetImageFromArray(array)
    lesser.CopyInformation(fixed)
    write(lesser, moving_of(np.eye(4)))
    run(make_predictor(ANSWER))
    row = rows(tmp_path)["anna"]
    expected = fixed.TransformContinuousIndexToPhysicalPoint((11.5, 17.5, 8.5))
    np.testing.assert_allclose([float(row[f"centre_{axis}"]) for axis in "xyz"], expected, atol=1e-3)


def test_a_network_that_reads_labels_gets_the_label_in_the_moving_images_range(
    make_predictor, run, write, tmp_path, monkeypatch
):
    fixed = fixed_of()
    write(fixed, moving_of(np.eye(4)))
    mark(tmp_path, "labels", fixed, (5, 14, 16), (8, 8, 8))
    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    predictor = make_predictor(ANSWER)
    run(predictor, "--labels", tmp_path / "labels")
    (x,) = predictor.network.seen
    expected = torch.zeros(GRID)
    expected[2:10, 10:18, 8:16] = 1
    torch.testing.assert_close(x[0, 0], expected, atol=1e-4, rtol=0)
    assert x[0, 1].min() == 0 and x[0, 1].max() == 1


def test_what_is_there_is_not_registered_again(make_predictor, run, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)), "anna")
    run(make_predictor(ANSWER))
    (before,) = rows(tmp_path).values()
    write(fixed_of(), moving_of(np.eye(4)), "eve")
    predictor = make_predictor((0.0,) * 6)
    run(predictor, "--continue_prediction")
    assert len(predictor.network.seen) == 1 and rows(tmp_path)["anna"] == before and set(rows(tmp_path)) > {"anna"}
    (tmp_path / "out" / "anna.tfm").unlink()
    predictor = make_predictor((0.0,) * 6)
    run(predictor, "--continue_prediction")
    assert len(predictor.network.seen) == 1 and (tmp_path / "out" / "anna.tfm").is_file()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_calls_that_share_the_cases_write_tables_of_their_own(make_predictor, run, write, tmp_path):
    for case in ("anna", "ben", "eve"):
        write(fixed_of(), moving_of(np.eye(4)), case)
    for part in (0, 1):
        run(make_predictor(ANSWER), "-num_parts", 2, "-part_id", part)
    assert set(rows(tmp_path, "registration_part0of2.csv")) == {"anna", "eve"}
    assert set(rows(tmp_path, "registration_part1of2.csv")) == {"ben"}


def test_folds_that_disagree_are_a_warning(make_predictor, run, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)))
    run(make_predictor((8.0, 0, 0, 0, 0, 0), (-8.0, 0, 0, 0, 0, 0)))
    row = rows(tmp_path)["anna"]
    assert float(row["disagreement"]) == pytest.approx(8) and "disagree by 8.0 mm" in row["warning"]


def test_the_answer_is_the_mean_over_the_grid_and_its_shifted_ones(make_predictor, run, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)))
    run(make_predictor(network=ByGrid(9.0, -1.0, -1.0, -1.0, -1.0)))
    row = rows(tmp_path)["anna"]
    assert float(row["found_displacement"]) == pytest.approx(1, abs=1e-4)
    assert float(row["disagreement"]) == pytest.approx(4, abs=1e-4)  # √((8² + 4·2²)/5)


@pytest.mark.parametrize("first, second", [((9.0, -1.0), (0.0, 0.0)), ((0.0, 0.0), (9.0, -1.0))])
def test_of_two_stages_the_larger_disagreement_counts(make_predictor, run, write, tmp_path, monkeypatch, first, second):
    write(fixed_of(), moving_of(np.eye(4)))
    stage2 = make_predictor(network=ByGrid(second[0], *[second[1]] * 4))
    monkeypatch.setattr(RegistrationPredictor, "_second_stage", lambda *_: stage2)
    run(make_predictor(network=ByGrid(first[0], *[first[1]] * 4)), "--stage2", "nnUNetTrainerAttentionRegStage2")
    row = rows(tmp_path)["anna"]
    assert float(row["disagreement"]) == pytest.approx(4, abs=1e-4) and "disagree by 4.0 mm" in row["warning"]


def test_a_refinement_without_gain_is_left_out(make_predictor, run, write, tmp_path, monkeypatch):
    """Mutual information that finds a way from a result that was right."""
    away = rigid_transform.matrix(torch.tensor([4.0, -3, 5, 6, 0, 8]).double())
    monkeypatch.setattr(MutualInformation, "find", lambda *_: away)
    x = resampling_matrix(ANSWER, OBLIQUE)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER), "--refine", "mi")
    assert_same_transform(written(tmp_path), x)
    steps = "nnUNetTrainerAttentionReg + mutual information (no gain, left out)"
    assert rows(tmp_path)["anna"]["steps"] == steps


def test_six_numbers_about_the_corner(make_predictor, run, write, tmp_path, monkeypatch):
    """Of a model that was trained as published."""
    monkeypatch.setattr(RegistrationPredictor, "turns_about_corner", True)
    corner = -(np.array(GRID[::-1]) - 1) / 2 * SPACING
    t = rigid_transform.about(rigid_transform.matrix(torch.tensor(ANSWER).double()), torch.from_numpy(-corner))
    x = resampling_matrix(rigid_transform.parameters(t).tolist(), OBLIQUE)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER))
    assert_same_transform(written(tmp_path), x)
