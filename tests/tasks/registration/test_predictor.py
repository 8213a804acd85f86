"""The transform that is written, for networks whose answer is known."""

import csv
import json
import sys
from functools import cache

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.spatial.transform import Rotation
from torch import nn

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import euler_transform, physical_matrix
from nnunet_xmodal.networks.attention_reg import AttentionReg
from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.tasks.registration.grad_cam import attention_heat, on_image
from nnunet_xmodal.tasks.registration.grid import GridCutter
from nnunet_xmodal.tasks.registration.mutual_information import MutualInformation
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.registration.surroundings import amid

GRID = (12, 28, 24)
SIZE, SPACING, CENTRE = (40, 36, 18), (1.1, 1.1, 2.5), np.array([-31.0, 45.5, 210.0])
OBLIQUE = Rotation.from_euler("xyz", [14, -23, 30], degrees=True).as_matrix()
DIRECTIONS = {"straight": np.eye(3), "oblique": OBLIQUE, "left-handed": OBLIQUE @ np.diag([1.0, -1.0, 1.0])}
OTHER = Rotation.from_euler("xyz", [-8, 5, 50], degrees=True).as_matrix()
ANSWER = (3.0, -4.5, 2.0, 6.0, -9.0, 12.0)

_rng = np.random.default_rng(0)
BLOBS = _rng.uniform(-14, 14, (25, 3))
HEIGHTS = _rng.uniform(40, 120, 25)


class Known(nn.Module):
    """Finds the same six numbers in every image."""

    def __init__(self, answer=(0.0,) * 6):
        super().__init__()
        self.answer = nn.Parameter(torch.tensor([float(x) for x in answer]))
        self.seen = []

    def forward(self, x, spacing):
        self.seen.append(x)
        return self.answer.expand(len(x), 6)


def organ(points):
    """Intensities from 5 on at physical points of the fixed image's space; smooth enough for a linear interpolation."""
    places = points - CENTRE
    squared = (places**2).sum(-1, keepdims=True) - 2 * places @ BLOBS.T + (BLOBS**2).sum(-1)
    return 5 + np.exp(-squared / (2 * 5.0**2)) @ HEIGHTS


def empty(size, spacing, direction, centre):
    image = sitk.Image([int(side) for side in size], sitk.sitkFloat32)
    image.SetSpacing(spacing)
    image.SetDirection(direction.flatten().tolist())
    half = (np.array(size) - 1) / 2 * spacing
    image.SetOrigin((np.asarray(centre) - direction @ half).tolist())
    return image


def filled(image, function):
    """An image like this one with the values of a function of physical points `(…, 3)`."""
    z, y, x = np.indices(image.GetSize()[::-1])
    index = np.stack((x, y, z), -1)
    matrix = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    made = sitk.GetImageFromArray(function(index @ matrix.T + image.GetOrigin()).astype(np.float32))
    made.CopyInformation(image)
    return made


def applied(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def resampling_matrix(answer, direction, initial=None, centre=CENTRE):
    """X = I·P·T⁻¹·P⁻¹, where P lays the grid's centre on `centre` and its axes on the fixed image's."""
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = direction, centre
    t = rigid_transform.matrix(torch.tensor(answer).double()).numpy()
    x = place @ np.linalg.inv(t) @ np.linalg.inv(place)
    return x if initial is None else initial @ x


def moving_of(x, size=(64, 72, 40), spacing=(1.2, 1.0, 1.9), direction=OTHER, centre=None):
    """What the fixed organ looks like to a scanner with a grid of its own, where X maps fixed to its points."""
    centre = applied(x, CENTRE) if centre is None else centre
    return _made(size, spacing, *(tuple(np.ravel(of).tolist()) for of in (direction, centre, np.linalg.inv(x))))


def fixed_of(direction=DIRECTIONS["straight"]):
    return _made(SIZE, SPACING, *(tuple(np.ravel(of).tolist()) for of in (direction, CENTRE, np.eye(4))))


def _made(*of):
    return sitk.Image(_made_once(*of))  # a copy as soon as it is written to


@cache
def _made_once(size, spacing, direction, centre, back):
    back = np.reshape(back, (4, 4))
    image = empty(size, spacing, np.reshape(direction, (3, 3)), centre)
    return filled(image, lambda points: organ(applied(back, points)))


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


def run(predictor, tmp_path, *flags):
    args = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-d", "1", "-c", "3d_fullres", *flags]
    request = request_of(parser().parse_args([*map(str, args), "--disable_progress_bar"]))
    predictor.take_options(request)
    predictor.predict_folder(request)


def rows(tmp_path, name="registration.csv"):
    with open(tmp_path / "out" / name, newline="") as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def written(tmp_path, case="anna"):
    return sitk.ReadTransform(str(tmp_path / "out" / f"{case}.tfm"))


def assert_same_transform(transform, matrix):
    points = CENTRE + np.random.default_rng(1).uniform(-40, 40, (30, 3))
    theirs = np.array([transform.TransformPoint(point.tolist()) for point in points])
    assert np.abs(theirs - applied(matrix, points)).max() < 1e-3  # mm


def inner(image):
    """Where both images are, well within the fixed one."""
    return sitk.GetArrayFromImage(image)[4:-4, 8:-8, 8:-8]


@pytest.mark.parametrize("init", ["none", "geometry"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_written_transform_resamples_the_moving_image_as_it_is(make_predictor, write, tmp_path, direction, init):
    """Grids of other spacing, other axes and, with --init geometry, other coordinates altogether."""
    axes = DIRECTIONS[direction]
    there = np.array([400.0, -250.0, 33.0]) if init == "geometry" else CENTRE + [4, -6, 5]
    initial = np.eye(4)
    if init == "geometry":
        initial[:3, 3] = there - CENTRE
    x = resampling_matrix(ANSWER, axes, initial)
    fixed, moving = fixed_of(axes), moving_of(x, centre=there)
    write(fixed, moving)
    run(make_predictor(ANSWER), tmp_path, "--init", init)
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
    assert (tmp_path / "out" / "anna_checkerboard.png").stat().st_size > 10_000

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


def test_plans_of_another_spacing(make_predictor, write, tmp_path):
    """Sizes are rounded in preprocessing, so the grid's voxels are neither the fixed image's nor the plans'."""
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(resampling_matrix(ANSWER, OBLIQUE)))
    predictor = make_predictor(ANSWER, spacing=(2.13, 1.37, 1.49))
    run(predictor, tmp_path)
    centre = np.array(sitk.Euler3DTransform(written(tmp_path)).GetCenter())
    assert np.linalg.norm(centre - CENTRE) < 1.5  # rounded to whole voxels
    assert_same_transform(written(tmp_path), resampling_matrix(ANSWER, OBLIQUE, centre=centre))


def test_the_network_sees_both_images_on_the_grid_in_one_range(make_predictor, write, tmp_path):
    fixed, moving = fixed_of(OBLIQUE), moving_of(resampling_matrix(ANSWER, OBLIQUE))
    write(fixed, moving)
    predictor = make_predictor(ANSWER)
    run(predictor, tmp_path)
    (x,) = predictor.network.seen
    assert x.shape == (5, 2, *GRID)  # this grid, and four that tell how sure the network is
    assert (x[0].min(), x[0].max()) == (0, 1)
    onto = sitk.Resample(moving, fixed, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    cut = [slice((side - grid) // 2, (side + grid) // 2) for side, grid in zip(SIZE[::-1], GRID)]
    both = np.stack([sitk.GetArrayFromImage(image)[tuple(cut)] for image in (fixed, onto)])
    np.testing.assert_allclose(x[0], (both - both.min()) / (both.max() - both.min()), atol=2e-4)


def test_folds_are_averaged_on_se3(make_predictor, write, tmp_path):
    answers = [ANSWER, (1.0, 2, 3, 170, 10, 0), (0.0, 0, 0, -170, 0, 20)]
    write(fixed_of(), moving_of(np.eye(4)))
    run(make_predictor(*answers), tmp_path)
    mean = rigid_transform.mean_se3(rigid_transform.matrix(torch.tensor(answers).double()))
    assert_same_transform(written(tmp_path), resampling_matrix(rigid_transform.parameters(mean).tolist(), np.eye(3)))


def test_the_second_stage_begins_where_the_first_one_ended(make_predictor, write, tmp_path, monkeypatch):
    """From the original moving image, interpolated once."""
    second_answer = (-2.0, 1.0, 1.5, -4.0, 3.0, 5.0)
    x1 = resampling_matrix(ANSWER, OBLIQUE)
    x = resampling_matrix(second_answer, OBLIQUE, x1)
    fixed, moving = fixed_of(OBLIQUE), moving_of(x)
    write(fixed, moving)
    second = make_predictor(second_answer)
    monkeypatch.setattr(RegistrationPredictor, "_second_stage", lambda *_: second)
    run(make_predictor(ANSWER), tmp_path, "--stage2", "nnUNetTrainerAttentionRegStage2")
    assert_same_transform(written(tmp_path), x)
    (seen,) = second.network.seen
    cutter = GridCutter(second.plans_manager, second.configuration_manager, second.dataset_json)
    grid = cutter(fixed, moving, euler_transform(x1, CENTRE), CENTRE)
    both = np.stack((grid.fixed, amid(grid.moving, GRID)))
    np.testing.assert_allclose(seen[0], (both - both.min()) / (both.max() - both.min()), atol=2e-4)


def test_mutual_information_refines_what_the_network_left(make_predictor, write, tmp_path):
    left = (2.0, -1.5, 2.0, 2.0, 3.0, -2.0)
    x1 = resampling_matrix(ANSWER, OBLIQUE)
    x = resampling_matrix(left, OBLIQUE, x1)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER), tmp_path, "--refine", "mi")
    points = CENTRE + BLOBS
    refined = applied(physical_matrix(written(tmp_path)), points)
    error, before = (np.linalg.norm(p - applied(x, points), axis=1).mean() for p in (refined, applied(x1, points)))
    assert before > 2.5 and error < 0.5
    assert rows(tmp_path)["anna"]["steps"] == "nnUNetTrainerAttentionReg + mutual information"


def test_the_moving_images_pixel_type_is_kept(make_predictor, write, tmp_path):
    write(fixed_of(), sitk.Cast(moving_of(np.eye(4)), sitk.sitkInt16))
    run(make_predictor(ANSWER), tmp_path)
    assert sitk.ReadImage(str(tmp_path / "out" / "anna_registered.nii.gz")).GetPixelID() == sitk.sitkInt16


def mark(tmp_path, folder, image, corner, size):
    """A box of ones in an image like this one, as CASE.nii.gz."""
    array = np.zeros(image.GetSize()[::-1], np.uint8)
    array[tuple(slice(first, first + side) for first, side in zip(corner, size))] = 1
    mask = sitk.GetImageFromArray(array)
    mask.CopyInformation(image)
    (tmp_path / folder).mkdir(exist_ok=True)
    sitk.WriteImage(mask, str(tmp_path / folder / "anna.nii.gz"))


def test_the_grid_lies_around_what_the_user_shows(make_predictor, write, tmp_path, monkeypatch):
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(np.eye(4)))
    place = np.array(fixed.TransformContinuousIndexToPhysicalPoint((15.5, 22.5, 7.5)))

    def centre(*flags):
        run(make_predictor(ANSWER), tmp_path, *flags)
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
    for system, sign in (("LPS", 1), ("RAS", -1)):
        control = {"position": (place * (sign, sign, 1)).tolist()}
        content = {"markups": [{"coordinateSystem": system, "controlPoints": [control]}]}
        (tmp_path / "points" / "anna.mrk.json").write_text(json.dumps(content))
        np.testing.assert_allclose(centre("--roi", tmp_path / "points")[0], place, atol=1e-3)

    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    of_label, told = centre("--labels", tmp_path / "masks")
    assert told == "label"
    np.testing.assert_allclose(of_label, place, atol=1e-3)


def test_without_a_region_the_grid_lies_amid_the_fixed_images_non_zero_voxels(make_predictor, write, tmp_path):
    """nnU-Net's crop counts the moving image as well."""
    fixed = fixed_of()
    array = sitk.GetArrayFromImage(fixed)
    array[:, :, 24:] = 0
    lesser = sitk.GetImageFromArray(array)
    lesser.CopyInformation(fixed)
    write(lesser, moving_of(np.eye(4)))
    run(make_predictor(ANSWER), tmp_path)
    row = rows(tmp_path)["anna"]
    expected = fixed.TransformContinuousIndexToPhysicalPoint((11.5, 17.5, 8.5))
    np.testing.assert_allclose([float(row[f"centre_{axis}"]) for axis in "xyz"], expected, atol=1e-3)


def test_a_network_that_reads_labels_gets_the_label_in_the_moving_images_range(
    make_predictor, write, tmp_path, monkeypatch
):
    fixed = fixed_of()
    write(fixed, moving_of(np.eye(4)))
    mark(tmp_path, "labels", fixed, (5, 14, 16), (8, 8, 8))
    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    predictor = make_predictor(ANSWER)
    run(predictor, tmp_path, "--labels", tmp_path / "labels")
    (x,) = predictor.network.seen
    expected = torch.zeros(GRID)
    expected[2:10, 10:18, 8:16] = 1
    torch.testing.assert_close(x[0, 0], expected, atol=1e-4, rtol=0)
    assert x[0, 1].min() == 0 and x[0, 1].max() == 1


def test_what_is_there_is_not_registered_again(make_predictor, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)), "anna")
    run(make_predictor(ANSWER), tmp_path)
    (before,) = rows(tmp_path).values()
    write(fixed_of(), moving_of(np.eye(4)), "eve")
    predictor = make_predictor((0.0,) * 6)
    run(predictor, tmp_path, "--continue_prediction")
    assert len(predictor.network.seen) == 1 and rows(tmp_path)["anna"] == before and set(rows(tmp_path)) > {"anna"}
    (tmp_path / "out" / "anna.tfm").unlink()
    predictor = make_predictor((0.0,) * 6)
    run(predictor, tmp_path, "--continue_prediction")
    assert len(predictor.network.seen) == 1 and (tmp_path / "out" / "anna.tfm").is_file()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_calls_that_share_the_cases_write_tables_of_their_own(make_predictor, write, tmp_path):
    for case in ("anna", "ben", "eve"):
        write(fixed_of(), moving_of(np.eye(4)), case)
    for part in (0, 1):
        run(make_predictor(ANSWER), tmp_path, "-num_parts", 2, "-part_id", part)
    assert set(rows(tmp_path, "registration_part0of2.csv")) == {"anna", "eve"}
    assert set(rows(tmp_path, "registration_part1of2.csv")) == {"ben"}


def test_heat_maps_of_the_attention_blocks(make_predictor, write, tmp_path):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    torch.manual_seed(3)
    network = AttentionReg(GRID, CrossModalAttention).eval()
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(np.eye(4)))
    run(make_predictor(network=network), tmp_path, "--grad_cam")
    for side in ("fixed", "moving"):
        heat = sitk.ReadImage(str(tmp_path / "out" / f"anna_gradcam_{side}.nii.gz"))
        assert heat.GetSize() == fixed.GetSize()
        np.testing.assert_allclose(heat.GetDirection(), fixed.GetDirection(), atol=1e-6)
        array = sitk.GetArrayFromImage(heat)
        assert np.isfinite(array).all() and array.min() >= 0 and 0.3 < array.max() <= 1
        # the grid begins at 3, 4, 8, and a position reaches half a stride beyond
        assert not array[:2].any() and not array[:, :2].any() and not array[:, :, :6].any()


def test_a_heat_map_is_the_sum_of_channels_weighted_by_their_mean_gradients(make_predictor):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    network = AttentionReg(GRID, CrossModalAttention).eval()
    step = make_predictor(network=network).as_step()
    grid = step.cut(fixed_of(), moving_of(np.eye(4)), sitk.Euler3DTransform(), CENTRE)
    kept = []
    hook = network.moving_attention.register_forward_hook(lambda module, inputs, output: kept.append(output))
    both = torch.from_numpy(np.stack((grid.fixed, amid(grid.moving, GRID))))[None]
    length = network((both - both.min()) / (both.max() - both.min())).norm()
    hook.remove()
    (features,) = kept  # 1 32 d h w
    weights = torch.autograd.grad(length, features)[0].mean((2, 3, 4), keepdim=True)
    expected = (weights * features).sum(1)[0].abs().detach()
    found = attention_heat(step, grid)["moving"]
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-3)


def test_without_captum_a_sentence_names_the_extra(make_predictor, write, tmp_path, monkeypatch):
    write(fixed_of(), moving_of(np.eye(4)))
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(XModalError, match=r"--grad_cam needs Captum: pip install .*\[gradcam\]"):
        run(make_predictor(ANSWER), tmp_path, "--grad_cam")
    assert not (tmp_path / "out").exists()


def test_a_position_of_the_features_is_shown_where_its_voxel_lies(make_predictor):
    predictor = make_predictor(ANSWER)
    fixed = fixed_of(OBLIQUE)
    grid = predictor.as_step().cut(fixed, moving_of(np.eye(4)), sitk.Euler3DTransform(), CENTRE)
    heat = np.zeros((6, 7, 6), np.float32)
    heat[2, 3, 4] = 1
    array = sitk.GetArrayFromImage(on_image(heat, grid.chain, fixed))
    expected = np.add(grid.chain.start, (2 * 2, 4 * 3, 4 * 4))
    assert np.unravel_index(array.argmax(), array.shape) == tuple(expected) and array.max() == pytest.approx(
        1, abs=1e-3
    )


# what users get wrong


def spoilt(image, **changes):
    array = sitk.GetArrayFromImage(image)
    for index, value in changes.pop("voxels", {}).items():
        array[index] = value
    made = sitk.GetImageFromArray(array[changes.pop("slices", slice(None))])
    made.CopyInformation(image[:, :, : made.GetSize()[2]])
    for name, value in changes.items():
        getattr(made, f"Set{name}")(value)
    return made


def shifted(image, *mm):
    return spoilt(image, Origin=np.add(image.GetOrigin(), mm).tolist())


@pytest.mark.parametrize(
    "spoil_fixed, spoil_moving, flags, sentence",
    [
        (None, lambda i: shifted(i, 300, 0, 0), [], r"anna_0001.nii.gz does not overlap with .*--init geometry"),
        (None, lambda i: shifted(i, 68, 0, 0), [], "does not reach into the grid around .* or show where the organ is"),
        (None, lambda i: spoilt(i, Spacing=(0.0012, 0.001, 0.0019)), ["--init", "geometry"],
         r"anna_0001.nii.gz measures 0.13 mm from corner to corner and .*anna_0000.nii.gz \d+\.?\d* mm"),
        (None, lambda i: spoilt(i, slices=slice(1)), [], r"anna_0001.nii.gz is a single slice \(64×72×1 voxels\)"),
        (lambda i: i[:, :, 4], None, [], "holds 40×36 voxels, which is no single volume"),
        (None, lambda i: spoilt(i, voxels={(3, 4, 5): np.nan}), [], "anna_0001.nii.gz holds NaN or infinite voxels"),
        (lambda i: spoilt(i, voxels={(3, 4, 5): np.inf}), None, [], "anna_0000.nii.gz holds NaN or infinite voxels"),
        (lambda i: i * 0, None, [], "anna_0000.nii.gz is zero everywhere"),
        (None, lambda i: i * 0 + 3, ["--init", "moments"], "needs images with a centre of mass, and one is 3 everyw"),
        (None, lambda i: i * 0 + 3, [], "anna_0001.nii.gz has the value 3 everywhere: there is nothing to register"),
        (lambda i: i * 0 + 5, None, [], "anna_0000.nii.gz has the value 5 everywhere: there is nothing to register"),
        (None, None, ["--save_probabilities"], "there are no probabilities to save"),
        (None, None, ["--labels", "."], "--labels does not apply to models of nnUNetTrainerAttentionReg"),
        (None, None, ["--roi", "."], r"anna.nii.gz \(or one that ends in .csv, .mrk.json\) is missing: --roi needs"),
    ],
)  # fmt: skip
def test_refusals_before_anything_is_written(
    make_predictor, write, tmp_path, spoil_fixed, spoil_moving, flags, sentence
):
    fixed, moving = fixed_of(), moving_of(np.eye(4))
    write(spoil_fixed(fixed) if spoil_fixed else fixed, spoil_moving(moving) if spoil_moving else moving)
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(ANSWER), tmp_path, *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("anna.csv", "x,y,z\n1,2,3\n4,5,6\n", "does not hold a single point: write a .csv with the header x,y,z"),
        ("anna.csv", "x,y,z\n1,2,nan\n", "does not hold a single point"),
        ("anna.csv", "1,2,3\n", "does not hold a single point"),
        ("anna.mrk.json", "{}", "does not hold a single point"),
        ("anna.csv", "x,y,z\n31,-45.5,210\n", r"the centre \[31.0, -45.5, 210.0\] mm of .*anna.csv lies outside of"),
    ],
)
def test_faulty_points(make_predictor, write, tmp_path, name, content, sentence):
    write(fixed_of(), moving_of(np.eye(4)))
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / name).write_text(content)
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(ANSWER), tmp_path, "--roi", tmp_path / "points")
    assert not (tmp_path / "out").exists()


def test_faulty_masks_and_labels(make_predictor, write, tmp_path, monkeypatch):
    fixed = fixed_of()
    write(fixed, moving_of(np.eye(4)))
    mark(tmp_path, "empty", fixed, (0, 0, 0), (0, 0, 0))
    with pytest.raises(XModalError, match="empty/anna.nii.gz is empty: mark the organ"):
        run(make_predictor(ANSWER), tmp_path, "--roi", tmp_path / "empty")
    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    with pytest.raises(XModalError, match="read the label of the fixed image in its place: give the folder of"):
        run(make_predictor(ANSWER), tmp_path)
    with pytest.raises(XModalError, match="in/anna.nii.gz is missing: --labels needs a file for every case"):
        run(make_predictor(ANSWER), tmp_path, "--labels", tmp_path / "in")
    with pytest.raises(XModalError, match="empty/anna.nii.gz is empty"):
        run(make_predictor(ANSWER), tmp_path, "--labels", tmp_path / "empty")
    mark(tmp_path, "here", fixed, (1, 1, 1), (2, 2, 2))
    mark(tmp_path, "there", fixed, (14, 32, 36), (2, 2, 2))
    with pytest.raises(XModalError, match="there/anna.nii.gz does not reach into the grid"):
        run(make_predictor(ANSWER), tmp_path, "--labels", tmp_path / "there", "--roi", tmp_path / "here")
    assert not (tmp_path / "out").exists()


def test_axes_that_are_not_at_right_angles(make_predictor, write, tmp_path):
    """SimpleITK would refuse such a NIfTI, or forget its shear."""
    import nibabel

    write(fixed_of(), moving_of(np.eye(4)))
    file = tmp_path / "in" / "anna_0001.nii.gz"
    image = nibabel.load(file)
    sheared_axes = np.array([[1, 0.3, 0, -20], [0, 1, 0, 0], [0, 0, 1, 150], [0, 0, 0, 1.0]])
    for affine, sentence in (
        (sheared_axes, "the axes of .*anna_0001.nii.gz.* are not three at right angles"),
        (np.diag([1, 1, 0, 1.0]), "anna_0001.nii.gz has the spacing 1×1×0 mm, which has to be positive"),
    ):
        sheared = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), None)
        sheared.set_sform(affine, 1)
        nibabel.save(sheared, file)
        with pytest.raises(XModalError, match=sentence):
            run(make_predictor(ANSWER), tmp_path)
    assert not (tmp_path / "out").exists()


def test_missing_and_superfluous_files(make_predictor, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)))
    with pytest.raises(XModalError, match="is the folder of the input images"):
        run(make_predictor(ANSWER), tmp_path, "-o", tmp_path / "in")
    (tmp_path / "in" / "anna_0002.nii.gz").touch()
    with pytest.raises(XModalError, match="anna_0002.nii.gz is one channel too many"):
        run(make_predictor(ANSWER), tmp_path)
    (tmp_path / "in" / "anna_0002.nii.gz").unlink()
    (tmp_path / "in" / "anna_0000.nii.gz").unlink()
    with pytest.raises(XModalError, match=r"anna_0000.nii.gz is missing: case anna needs channel 0 \(MR\)"):
        run(make_predictor(ANSWER), tmp_path)
    (tmp_path / "in" / "anna_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(XModalError, match="anna_0000.nii.gz cannot be read"):
        run(make_predictor(ANSWER), tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_first_of_several_faulty_cases_is_described(make_predictor, write, tmp_path):
    for case in ("anna", "ben", "eve"):
        write(fixed_of(), shifted(moving_of(np.eye(4)), 300, 0, 0) if case != "ben" else moving_of(np.eye(4)), case)
    with pytest.raises(XModalError, match=r"anna_0001.nii.gz does not overlap .*\(1 other cases have faults, too.\)"):
        run(make_predictor(ANSWER), tmp_path)


# more than the images is known


def landmarks_of(points, file):
    rows = [f"{x},{y},{z},p{number}" for number, (x, y, z) in enumerate(points)]
    file.write_text("\n".join(["x,y,z,label", *rows]) + "\n")


@pytest.mark.parametrize("kind", ["transform", "landmarks"])
def test_a_given_start_is_part_of_the_result(make_predictor, write, tmp_path, kind):
    """The images lie far apart and one is turned by 100°, so that no other start would do."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [20, -15, 100], degrees=True).as_matrix()
    turn[:3, 3] = 300, -20, 50
    x = resampling_matrix(ANSWER, np.eye(3), turn)
    write(fixed_of(), moving_of(x))
    (tmp_path / "starts").mkdir()
    if kind == "transform":
        sitk.WriteTransform(euler_transform(turn, (5.0, 6.0, 7.0)), str(tmp_path / "starts" / "anna.tfm"))
    else:
        for number, points in enumerate((CENTRE + BLOBS[:4], applied(turn, CENTRE + BLOBS[:4]))):
            landmarks_of(points, tmp_path / "starts" / f"anna_{number:04d}.csv")
    run(make_predictor(ANSWER), tmp_path, "--init", tmp_path / "starts")
    assert_same_transform(written(tmp_path), x)
    row = rows(tmp_path)["anna"]
    assert row["init"] == str(tmp_path / "starts")
    assert float(row["found_displacement"]) == pytest.approx(np.linalg.norm(ANSWER[:3]), abs=1e-2)
    assert row["warning"] == "" and float(row["disagreement"]) < 10


def test_errors_are_told_where_the_truth_is_known(make_predictor, write, tmp_path):
    x = resampling_matrix(ANSWER, np.eye(3))
    fixed = fixed_of()
    write(fixed, moving_of(x))
    (tmp_path / "truth").mkdir()
    for number, points in enumerate((CENTRE + BLOBS[:5], applied(x, CENTRE + BLOBS[:5]))):
        landmarks_of(points, tmp_path / "truth" / f"anna_{number:04d}.csv")
    mark(tmp_path, "labels", fixed, (5, 14, 16), (8, 8, 8))
    truth = euler_transform(x, CENTRE)
    (tmp_path / "moving_labels").mkdir()
    label = sitk.ReadImage(str(tmp_path / "labels" / "anna.nii.gz"))
    onto = sitk.Resample(label, moving_of(x), truth.GetInverse(), sitk.sitkNearestNeighbor, 0.0)
    sitk.WriteImage(onto, str(tmp_path / "moving_labels" / "anna.mha"))
    flags = ["--reference", tmp_path / "truth", "--labels", tmp_path / "labels"]
    run(make_predictor(ANSWER), tmp_path, *flags, "--moving_labels", tmp_path / "moving_labels")
    row = rows(tmp_path)["anna"]
    assert float(row["TRE_mm"]) < 1e-2 < 3 < float(row["TRE_before_mm"])
    assert float(row["SRE_mm"]) < 1e-2 < 3 < float(row["SRE_before_mm"])
    assert float(row["Dice"]) > 0.85 > float(row["Dice_before"])
    assert row["centre_from"] == "non-zero region"  # what measures does not help


def test_moving_images_lie_in_a_folder_of_their_own_with_their_own_ending(make_predictor, write, tmp_path):
    x = resampling_matrix(ANSWER, OBLIQUE)
    write(fixed_of(OBLIQUE), moving_of(x))
    (tmp_path / "us").mkdir()
    with pytest.raises(XModalError, match="anna_0001.nii.gz is there although --moving .*us is the folder of"):
        run(make_predictor(ANSWER), tmp_path, "--moving", tmp_path / "us")
    (tmp_path / "in" / "anna_0001.nii.gz").unlink()
    with pytest.raises(XModalError, match="us holds no moving image of anna: name it anna_0001 or anna, and .nii.gz"):
        run(make_predictor(ANSWER), tmp_path, "--moving", tmp_path / "us")
    sitk.WriteImage(moving_of(x), str(tmp_path / "us" / "anna.nrrd"))
    run(make_predictor(ANSWER), tmp_path, "--moving", tmp_path / "us")
    assert_same_transform(written(tmp_path), x)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--init", "centre"], "--init centre is no folder: take none, geometry, moments, or a folder"),
        (["--init", "."], "--init .* holds no alignment of anna"),
        (["--reference", "."], "--reference .* holds no alignment of anna"),
        (["--moving_labels", "."], "are compared with the labels of the fixed images: give --labels, too"),
    ],
)
def test_faulty_starts_and_references(make_predictor, write, tmp_path, flags, sentence):
    write(fixed_of(), moving_of(np.eye(4)))
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(ANSWER), tmp_path, *flags)
    assert not (tmp_path / "out").exists()


def test_folds_that_disagree_are_a_warning(make_predictor, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)))
    run(make_predictor((8.0, 0, 0, 0, 0, 0), (-8.0, 0, 0, 0, 0, 0)), tmp_path)
    row = rows(tmp_path)["anna"]
    assert float(row["disagreement"]) == pytest.approx(8) and "disagree by 8.0 mm" in row["warning"]


def test_a_refinement_without_gain_is_left_out(make_predictor, write, tmp_path, monkeypatch):
    """Mutual information that finds a way from a result that was right."""
    away = rigid_transform.matrix(torch.tensor([4.0, -3, 5, 6, 0, 8]).double())
    monkeypatch.setattr(MutualInformation, "find", lambda *_: away)
    x = resampling_matrix(ANSWER, OBLIQUE)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER), tmp_path, "--refine", "mi")
    assert_same_transform(written(tmp_path), x)
    steps = "nnUNetTrainerAttentionReg + mutual information (no gain, left out)"
    assert rows(tmp_path)["anna"]["steps"] == steps


def test_six_numbers_about_the_corner(make_predictor, write, tmp_path, monkeypatch):
    """Of a model that was trained as published."""
    monkeypatch.setattr(RegistrationPredictor, "turns_about_corner", True)
    corner = -(np.array(GRID[::-1]) - 1) / 2 * SPACING
    t = rigid_transform.about(rigid_transform.matrix(torch.tensor(ANSWER).double()), torch.from_numpy(-corner))
    x = resampling_matrix(rigid_transform.parameters(t).tolist(), OBLIQUE)
    write(fixed_of(OBLIQUE), moving_of(x))
    run(make_predictor(ANSWER), tmp_path)
    assert_same_transform(written(tmp_path), x)
