"""The chain beside SimpleITK's own geometry and beside what nnU-Net's preprocessor really does."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import center_of_mass, label
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import GridChain, euler_transform, physical_matrix
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.geometry.warp import warp

OBLIQUE = Rotation.from_euler("xyz", [24, -13, 40], degrees=True).as_matrix()
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "LAS": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": OBLIQUE @ np.diag([1.0, 1.0, -1.0]),
    "axes swapped": np.eye(3)[[1, 2, 0]],
}
SHEARED = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
TRANSPOSITIONS = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]


def chain_of(direction="oblique", transpose_forward=(0, 1, 2), size=(12, 24, 20), centre=(7.4, 14.0, 11.3)):
    """A fixed image of 27×33×22 voxels (x y z), cropped, and resampled to another shape."""
    properties = {
        "sitk_stuff": {
            "spacing": (0.7, 0.9, 2.9),
            "origin": (-431.7, 88.25, 1204.5),
            "direction": tuple(DIRECTIONS.get(direction, SHEARED).flatten()),
        },
        "bbox_used_for_cropping": [[1, 21], [3, 30], [2, 26]],
        "shape_after_cropping_and_before_resampling": (20, 27, 24),
    }
    return GridChain.from_properties(properties, transpose_forward, (23, 29, 21), size, centre)


def image_of(chain, array):
    """The grid as an image of its own with the geometry that the chain says; axes are those of the grid."""
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(chain.effective_spacing[::-1])
    directions = chain.grid_to_physical[:3, :3]
    image.SetDirection(directions.flatten().tolist())
    first = -(np.array(chain.size) - 1) / 2 * chain.effective_spacing
    image.SetOrigin(chain.to_physical(first[::-1]).tolist())
    return image


def random_transform(translation=6.0, angle=20.0):
    limits = torch.tensor([translation] * 3 + [angle] * 3).double()
    return rigid_transform.matrix((2 * torch.rand(6).double() - 1) * limits)


def through_file(transform, tmp_path):
    path = str(tmp_path / "case.tfm")
    sitk.WriteTransform(transform, path)
    return sitk.ReadTransform(path)


@pytest.mark.parametrize("transpose_forward", TRANSPOSITIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_voxels_lie_where_simpleitk_says(direction, transpose_forward):
    """Step by step from an index of the grid to the fixed image's continuous index."""
    chain = chain_of(direction, transpose_forward)
    fixed = sitk.Image([27, 33, 22], sitk.sitkUInt8)
    fixed.SetSpacing(chain.spacing)
    fixed.SetOrigin(chain.origin)
    fixed.SetDirection(chain.direction)
    for index in np.random.default_rng(0).uniform(0, 20, (20, 3)):
        preprocessed = index + chain.start
        cropped = (preprocessed + 0.5) * np.array([20, 27, 24]) / [23, 29, 21] - 0.5
        transposed = cropped + [1, 3, 2]
        native = [0.0] * 3
        for axis, source in enumerate(transpose_forward):
            native[source] = transposed[axis]
        expected = fixed.TransformContinuousIndexToPhysicalPoint(native[::-1])
        millimetres = (index - (np.array(chain.size) - 1) / 2) * chain.effective_spacing
        np.testing.assert_allclose(chain.to_physical(millimetres[::-1]), expected, atol=1e-9)
        np.testing.assert_allclose(chain.to_grid(np.array(expected)), millimetres[::-1], atol=1e-9)
        np.testing.assert_allclose(chain.to_preprocessed(np.array(expected)), preprocessed, atol=1e-9)


def test_effective_spacing_is_that_of_the_rounded_shape():
    chain = chain_of(transpose_forward=(1, 0, 2))
    assert chain.effective_spacing == pytest.approx((0.9 * 20 / 23, 2.9 * 27 / 29, 0.7 * 24 / 21))


@pytest.mark.parametrize("transpose_forward", TRANSPOSITIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_written_transform_reads_where_the_networks_warp_does(direction, transpose_forward, tmp_path):
    """To 1e-3 mm, through a file, for the network's float32 output."""
    chain = chain_of(direction, transpose_forward)
    for _ in range(5):
        parameters = (2 * torch.rand(6) - 1) * torch.tensor([20.0, 20, 20, 89, 89, 89])
        matrix = rigid_transform.matrix(parameters)  # float32
        written = through_file(chain.physical_transform(matrix), tmp_path)
        points = 60 * torch.randn(30, 3).double()
        read = chain.to_physical(rigid_transform.apply(rigid_transform.inverse(matrix.double()), points).numpy())
        theirs = [written.TransformPoint(point.tolist()) for point in chain.to_physical(points.numpy())]
        assert np.abs(np.array(theirs) - read).max() < 1e-3
        np.testing.assert_allclose(chain.grid_matrix(written), matrix, atol=1e-4)


@pytest.mark.parametrize("transpose_forward", TRANSPOSITIONS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_simpleitk_resamples_by_the_written_transform_as_the_network_warps(direction, transpose_forward, tmp_path):
    chain = chain_of(direction, transpose_forward)
    moving = torch.rand(1, 1, *chain.size).double()
    matrix = random_transform()
    image = image_of(chain, moving[0, 0].numpy())
    written = through_file(chain.physical_transform(matrix), tmp_path)
    theirs = torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(image, image, written, sitk.sitkLinear, -1.0)))
    ours = warp(moving, matrix, torch.tensor(chain.effective_spacing))[0, 0]
    inside = warp(torch.ones_like(moving), matrix, torch.tensor(chain.effective_spacing))[0, 0] > 1 - 1e-9
    assert inside.sum() > 1000
    torch.testing.assert_close(ours[inside], theirs[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("direction", ["oblique", "left-handed"])
def test_composition_with_an_initial_transform(direction, tmp_path):
    """Once through both, on the moving image as it is, is first through one and then through the other on the grid."""
    chain = chain_of(direction)
    centre = chain.grid_to_physical[:3, 3]
    initial = euler_transform(random_transform(30).numpy(), centre)
    initial.SetTranslation((12.0, -80.0, 33.0))  # frames of reference that have nothing to do with each other
    weights = np.array([0.3, -0.8, 0.5])  # of a linear image, on which interpolation is exact
    grid = image_of(chain, np.zeros(chain.size))

    def on_grid(transform):
        array = np.empty(chain.size)
        for index in np.ndindex(*chain.size):
            point = grid.TransformIndexToPhysicalPoint(tuple(int(i) for i in index[::-1]))
            array[index] = weights @ np.array(transform.TransformPoint(point))
        return torch.from_numpy(array)

    matrix = random_transform(3, 10)
    spacing = torch.tensor(chain.effective_spacing)
    moved = on_grid(initial)[None, None]
    ours = warp(moved, matrix, spacing)[0, 0]
    inside = warp(torch.ones_like(moved), matrix, spacing)[0, 0] > 1 - 1e-9
    written = through_file(chain.physical_transform(matrix, initial), tmp_path)
    torch.testing.assert_close(ours[inside], on_grid(written)[inside], atol=1e-3, rtol=0)
    np.testing.assert_allclose(chain.grid_matrix(written, initial), matrix, atol=1e-6)


def test_no_movement_writes_the_initial_transform():
    chain = chain_of()
    initial = euler_transform(random_transform(30).numpy(), (1.0, 2.0, 3.0))
    written = chain.physical_transform(torch.eye(4), initial)
    np.testing.assert_allclose(physical_matrix(written), physical_matrix(initial), atol=1e-9)
    assert physical_matrix(chain.physical_transform(np.eye(4))) == pytest.approx(np.eye(4), abs=1e-9)


def test_stages_and_starts_compose_as_they_do_on_the_grid():
    """M(second)·M(first) on the grid is the first transform in physical space, read by what the second one reads."""
    chain = chain_of("left-handed", (2, 0, 1))
    first, second = random_transform(), random_transform()
    both = physical_matrix(chain.physical_transform(second @ first))
    one_by_one = physical_matrix(chain.physical_transform(first)) @ physical_matrix(chain.physical_transform(second))
    np.testing.assert_allclose(both, one_by_one, atol=1e-9)


@pytest.mark.parametrize(
    "make",
    [
        lambda matrix: euler_transform(matrix, (3.0, 4.0, 5.0)),
        lambda matrix: sitk.AffineTransform(matrix[:3, :3].flatten().tolist(), matrix[:3, 3].tolist()),
        lambda matrix: sitk.CompositeTransform([sitk.TranslationTransform(3, matrix[:3, 3].tolist()), turned(matrix)]),
        lambda matrix: matrix,
        torch.from_numpy,
    ],
    ids=["Euler", "affine", "composite", "array", "tensor"],
)
def test_rigid_transforms_of_every_kind_are_read(make):
    matrix = random_transform().numpy()
    np.testing.assert_allclose(physical_matrix(make(matrix)), matrix, atol=1e-9)


def turned(matrix):
    versor = sitk.VersorRigid3DTransform()
    versor.SetMatrix(matrix[:3, :3].flatten().tolist(), 1e-6)
    return versor


@pytest.mark.parametrize(
    "transform",
    [
        np.diag([1.0, 1.0, 1.1, 1.0]),
        np.diag([1.0, 1.0, -1.0, 1.0]),
        sitk.ScaleTransform(3, (1.0, 2.0, 1.0)),
        sitk.DisplacementFieldTransform(sitk.Image([4, 4, 4], sitk.sitkVectorFloat64)),
    ],
    ids=["scaled", "mirrored", "SimpleITK's", "deformed"],
)
def test_what_is_not_rigid_is_refused(transform):
    with pytest.raises(XModalError, match="not rigid"):
        chain_of().grid_matrix(transform)


def test_sheared_axes_slices_and_other_readers_are_refused():
    with pytest.raises(XModalError, match="not at right angles"):
        chain_of("sheared")
    properties = {"bbox_used_for_cropping": [[0, 1]] * 3, "shape_after_cropping_and_before_resampling": (1, 1, 1)}
    with pytest.raises(XModalError, match="SimpleITKIO"):
        GridChain.from_properties(properties, (0, 1, 2), (1, 1, 1), (4, 8, 8))
    properties["sitk_stuff"] = {"spacing": (1, 1), "origin": (0, 0), "direction": (1, 0, 0, 1)}
    with pytest.raises(XModalError, match="the fixed image has 2 dimensions"):
        GridChain.from_properties(properties, (0, 1, 2), (1, 1, 1), (4, 8, 8))


@pytest.mark.parametrize("centre", [None, (0.0, 0.0, 0.0), (22, 28, 20), (7.4, 14.0, 11.3), (-40, 9, 300)], ids=str)
@pytest.mark.parametrize("size", [(12, 24, 20), (30, 40, 50), (5, 7, 9)])
def test_the_cut_is_whole_voxels_around_the_centre(size, centre):
    chain = chain_of(size=size, centre=centre)
    array = np.random.default_rng(0).random((2, 23, 29, 21)).astype(np.float32)
    grid = chain.cut(array, fill=-1)
    assert grid.shape == (2, *size) and grid.dtype == np.float32
    middle = np.array([11.0, 14.0, 10.0] if centre is None else centre)
    assert np.abs(np.add(chain.start, (np.array(size) - 1) / 2) - middle).max() <= 0.5
    source = np.moveaxis(np.indices(size), 0, -1) + chain.start  # D H W 3
    inside = ((source >= 0) & (source < array.shape[1:])).all(-1)
    z, y, x = np.moveaxis(np.where(inside[..., None], source, 0), -1, 0)
    np.testing.assert_array_equal(grid, np.where(inside, array[:, z, y, x], -1))


def test_the_grid_can_be_laid_around_a_physical_point():
    chain = chain_of()
    point = chain.to_physical(np.array([5.0, -9.0, 14.0]))
    there = chain.around(chain.to_preprocessed(point))
    assert (np.abs(there.to_grid(point)) <= np.array(there.effective_spacing[::-1]) / 2 + 1e-9).all()


def preprocessed(make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, points, direction):
    """A case with a blob at every physical point, read and preprocessed by nnU-Net."""
    shape = (26, 40, 44)  # z y x
    image = sitk.Image(shape[::-1], sitk.sitkFloat32)
    image.SetSpacing((0.8, 1.1, 2.3))
    image.SetOrigin((-310.0, 45.5, 700.25))
    image.SetDirection(DIRECTIONS[direction].flatten())
    array = np.zeros(shape, np.float32)
    array[4:23, 5:38, 3:40] = 1e-3  # what nnU-Net crops to
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for point in points:
        offset = (indices - np.array(image.TransformPhysicalPointToContinuousIndex(point))[::-1]) * [2.3, 1.1, 0.8]
        array += np.where((indices >= [4, 5, 3]).all(-1) & (indices < [23, 38, 40]).all(-1), 1, 0) * np.exp(
            -(offset**2).sum(-1) / (2 * 2.0**2)
        )
    plans = make_plans(3, channels=2)
    plans["transpose_forward"] = list(transpose_forward)
    plans["transpose_backward"] = np.argsort(transpose_forward).tolist()
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"spacing": list(spacing), "normalization_schemes": ["NoNormalization"] * 2}
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}_kwargs"] |= {"order": 3, "force_separate_z": False}
    files = []
    for channel in range(2):
        files.append(str(tmp_path / f"case_{channel:04d}.nii.gz"))
        filled = sitk.GetImageFromArray(array)
        filled.CopyInformation(image)
        sitk.WriteImage(filled, files[-1])
    data, properties = SimpleITKIO().read_images(files)
    manager = PlansManager(plans)
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        data, None, properties, manager, manager.get_configuration("3d_fullres"), make_dataset_json(channels=2)
    )
    return image, data, properties


@pytest.mark.parametrize(
    "spacing, transpose_forward, direction",
    [
        ((1.37, 1.21, 1.13), (0, 1, 2), "oblique"),
        ((1.5, 1.3, 1.2), (0, 1, 2), "LAS"),
        ((1.5, 1.7, 1.2), (1, 0, 2), "oblique"),
        ((0.9, 1.9, 1.2), (2, 0, 1), "left-handed"),
    ],
)
def test_nnunets_preprocessing_puts_blobs_where_the_chain_predicts(
    make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, direction
):
    reference = sitk.Image([44, 40, 26], sitk.sitkUInt8)
    reference.SetSpacing((0.8, 1.1, 2.3))
    reference.SetOrigin((-310.0, 45.5, 700.25))
    reference.SetDirection(DIRECTIONS[direction].flatten())
    native = [(12.3, 14.6, 9.2), (31.1, 28.4, 17.7), (13.0, 29.0, 13.5)]  # x y z, apart from each other and the border
    points = [reference.TransformContinuousIndexToPhysicalPoint(index) for index in native]
    _, data, properties = preprocessed(
        make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, points, direction
    )
    chain = GridChain.from_properties(properties, transpose_forward, data.shape[1:], (10, 20, 30))
    chain = chain.around(chain.to_preprocessed(np.array(points[0])))
    assert any(low > 0 for low in chain.first)
    assert chain.effective_spacing != pytest.approx(spacing, abs=1e-3)  # sizes are rounded
    assert chain.effective_spacing == pytest.approx(spacing, abs=0.05)

    blobs, count = label(data[0] > 0.3)
    assert count == len(points)
    found = np.array([center_of_mass(np.where(blobs == blob, data[0] - 0.3, 0)) for blob in range(1, count + 1)])
    predicted = chain.to_preprocessed(np.array(points))
    for place in predicted:
        assert np.abs(found - place).max(1).min() < 0.05  # voxels

    brightest = tuple(np.round(predicted[0] - chain.start).astype(int))  # the grid was laid around the first one
    assert chain.cut(data)[(0, *brightest)] > 0.8


NATIVE_PAIRS = [("0000_07-07-2011", "adc"), ("0001_07-08-2011", "adc")]


@pytest.fixture
def real_data():
    """Folders `mr_us_pair` and `native_prostate` of somebody's own, which are no part of this project."""
    folder = os.environ.get("NNUNET_XMODAL_REAL_DATA")
    if not folder:
        pytest.skip("NNUNET_XMODAL_REAL_DATA names no folder with real pairs")
    return Path(folder)


@pytest.mark.parametrize("patient, kind", NATIVE_PAIRS)
def test_real_images_of_one_frame_of_reference_lie_on_each_other(real_data, patient, kind):
    """A moving image of another grid, brought onto the grid by the identity and by what the chain writes for it."""
    fixed, moving = (
        sitk.ReadImage(str(real_data / "native_prostate" / f"ProstateX-{patient}_{name}.mha"), sitk.sitkFloat32)
        for name in ("t2w", kind)
    )
    array = sitk.GetArrayFromImage(fixed)
    properties = {
        "sitk_stuff": {key: getattr(fixed, f"Get{key.title()}")() for key in ("spacing", "origin", "direction")},
        "bbox_used_for_cropping": [[0, side] for side in array.shape],
        "shape_after_cropping_and_before_resampling": array.shape,
    }
    chain = GridChain.from_properties(properties, (0, 1, 2), array.shape, (16, 96, 96))
    grid = image_of(chain, chain.cut(array[None])[0])
    matrix = random_transform(5, 10)
    written = chain.physical_transform(matrix)
    onto_fixed = sitk.Resample(moving, grid, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    ours = warp(
        torch.from_numpy(sitk.GetArrayFromImage(onto_fixed))[None, None].double(),
        matrix,
        torch.tensor(chain.effective_spacing),
    )[0, 0]
    theirs = torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(moving, grid, written, sitk.sitkLinear, 0.0)))
    inner = (slice(4, -4), slice(20, -20), slice(20, -20))
    assert np.corrcoef(ours[inner].flatten(), theirs[inner].flatten())[0, 1] > 0.97
    assert len(surface_points(ours > ours.median(), chain.effective_spacing)) > 0


def test_a_real_ground_truth_is_rigid_by_our_convention_and_warps_a_real_pair(real_data):
    """It is known to five digits; six numbers give it back, and a warp there and back an image."""
    folder = real_data / "mr_us_pair"
    truth = torch.from_numpy(np.load(folder / "gt.npy"))
    again = rigid_transform.matrix(rigid_transform.parameters(truth))
    torch.testing.assert_close(again, truth, atol=1e-5, rtol=0)
    np.testing.assert_allclose(physical_matrix(truth), truth)
    chain = chain_of(size=(32, 96, 96))
    np.testing.assert_allclose(chain.grid_matrix(chain.physical_transform(truth)), truth, atol=1e-4)
    moving = torch.from_numpy(np.load(folder / "US.npy"))[None, None].double()
    turn, spacing = truth.clone(), torch.ones(3).double()
    turn[:3, 3] = 0  # its shift is between two scanners' coordinates and leads out of the grid
    back = warp(warp(moving, turn, spacing), rigid_transform.inverse(turn), spacing)
    inner = (..., slice(12, -12), slice(24, -24), slice(24, -24))
    assert np.corrcoef(back[inner].flatten(), moving[inner].flatten())[0, 1] > 0.97
