"""The chain beside SimpleITK's own geometry and beside what nnU-Net's preprocessor really does."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grid_chains import DIRECTIONS, chain_of, image_of, random_transform
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import GridChain, euler_transform, physical_matrix
from nnunet_xmodal.geometry.warp import warp

TRANSPOSITIONS = [(0, 1, 2), (1, 0, 2), (2, 0, 1)]


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


def test_rotations_of_four_digits_are_rotations():
    """As a header or a matrix in a text has them; what comes back stretches nothing."""
    for seed in range(200):
        matrix = np.eye(4)
        matrix[:3, :3] = Rotation.random(random_state=seed).as_matrix().round(4)
        found = physical_matrix(matrix)[:3, :3]
        assert np.allclose(found.T @ found, np.eye(3), atol=1e-9) and np.allclose(found, matrix[:3, :3], atol=2e-4)
    with pytest.raises(XModalError, match="not rigid"):
        physical_matrix(np.diag([1.01, 1, 1, 1]))
