import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.dipole import dipole_kernel, field_direction

OBLIQUE = (0.36, 0.48, 0.8)
DIRECTIONS = [(1.0, 0.0, 0.0), (0.0, 0.6, -0.8), OBLIQUE]


def random_map(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype)


def naive_kernel(size, spacing, direction):
    """D on all frequencies, in a loop, with the mean over both signs of the highest frequency of even sides."""
    kernel = np.zeros(size)
    for index in np.ndindex(*size):
        if index == (0, 0, 0):
            continue
        signs = []
        for n, side, mm in zip(index, size, spacing):
            n = n if n < side / 2 else n - side
            signs.append([n / (side * mm), -n / (side * mm)] if abs(n) * 2 == side else [n / (side * mm)])
        values = [1 / 3 - np.dot(k, direction) ** 2 / np.dot(k, k) for k in itertools.product(*signs)]
        kernel[index] = np.mean(values)
    return kernel


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", [(4, 6, 8), (5, 3, 7), (6, 5, 4)], ids=str)
def test_the_kernel_is_the_printed_formula_on_half_of_the_frequencies(size, direction):
    spacing = (2.0, 0.7, 1.1)
    expected = naive_kernel(size, spacing, direction)[..., : size[2] // 2 + 1]
    np.testing.assert_allclose(dipole_kernel(size, spacing, direction, torch.float64), expected, atol=1e-14)
    np.testing.assert_allclose(dipole_kernel(size, spacing, direction), expected, atol=1e-6)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_d_0_is_0_and_all_others_lie_between_minus_two_thirds_and_one_third(direction):
    kernel = dipole_kernel((16, 20, 18), (2.0, 1.0, 1.5), direction, torch.float64)
    assert kernel[0, 0, 0] == 0
    assert kernel.min() >= -2 / 3 - 1e-14 and kernel.max() <= 1 / 3 + 1e-14


def test_along_across_and_at_the_magic_angle():
    kernel = dipole_kernel((8, 8, 8), (1, 1, 1), (1, 0, 0), torch.float64)
    torch.testing.assert_close(kernel[1:, 0, 0], torch.full((7,), -2 / 3, dtype=torch.float64))
    torch.testing.assert_close(kernel[0, 1, 1:], torch.full((4,), 1 / 3, dtype=torch.float64))
    diagonal = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64) / math.sqrt(3)  # 54.7° from every axis
    kernel = dipole_kernel((8, 8, 8), (1, 2, 3), diagonal, torch.float64)
    assert kernel[1:4, 0, 0].abs().max() < 1e-15 and kernel[0, 1:4, 0].abs().max() < 1e-15


@pytest.mark.parametrize("padding", [1.0, 2.0])
def test_the_forward_model_is_the_sum_over_all_sources(padding):
    """χ(j)·d(i − j) with d the real space of D, in a loop over sources."""
    size, spacing = (4, 5, 6), (1.5, 1.0, 0.8)
    padded = [int(padding * side) for side in size]  # all lengths that an FFT likes
    susceptibility = random_map(2, 1, *size)
    field = dipole.forward(susceptibility, [spacing, (1.0, 1.0, 1.0)], [OBLIQUE, (0.0, 1.0, 0.0)], padding)
    for sample, (mm, b) in enumerate(((spacing, OBLIQUE), ((1, 1, 1), (0, 1, 0)))):
        unit_dipole = np.fft.ifftn(naive_kernel(padded, mm, b))
        assert np.abs(unit_dipole.imag).max() < 1e-15
        expected = np.zeros(size)
        for source in np.ndindex(*size):
            shifted = np.roll(unit_dipole.real, source, axis=(0, 1, 2))
            expected += susceptibility[sample, 0][source].item() * shifted[: size[0], : size[1], : size[2]]
        np.testing.assert_allclose(field[sample, 0], expected, atol=1e-13)


@pytest.mark.parametrize("direction", [*DIRECTIONS, (0.6, 0.0, 0.8)])
def test_a_spheres_field_is_the_analytic_one(direction):
    """Outside (R/r)³·(3cos² − 1)/3 to 2 % RMS beyond 1.5 radii, inside 0: on voxels that are no cubes."""
    size, spacing, radius, finer = (40, 60, 60), (2.0, 1.5, 1.5), 18.0, 3
    axes = [((np.arange(n * finer) + 0.5) / finer - n / 2) * mm for n, mm in zip(size, spacing)]
    inside = sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij", sparse=True)) < radius**2
    sphere = torch.nn.functional.avg_pool3d(torch.from_numpy(inside)[None, None].double(), finer)
    field = dipole.forward(sphere, spacing, direction)[0, 0].numpy()

    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(size, spacing)]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    distance = np.linalg.norm(place, axis=-1)
    expected = (radius / distance) ** 3 * (3 * (place @ np.array(direction) / distance) ** 2 - 1) / 3
    outside = distance > 1.5 * radius
    error = np.sqrt(np.square((field - expected)[outside]).mean() / np.square(expected[outside]).mean())
    assert error < 0.02
    assert np.sqrt(np.square(field[distance < 0.75 * radius]).mean()) < 0.01


def test_it_is_linear():
    x, y = random_map(2, 1, 6, 8, 5), random_map(2, 1, 6, 8, 5)
    one_by_one = 2 * dipole.forward(x, (1, 2, 3), OBLIQUE) - 3 * dipole.forward(y, (1, 2, 3), OBLIQUE)
    torch.testing.assert_close(dipole.forward(2 * x - 3 * y, (1, 2, 3), OBLIQUE), one_by_one)


@pytest.mark.parametrize("padding", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_it_is_its_own_adjoint(direction, padding):
    x, y = random_map(1, 1, 6, 8, 10), random_map(1, 1, 6, 8, 10)
    there = (dipole.forward(x, (2, 1, 1.5), direction, padding) * y).sum()
    back = (x * dipole.forward(y, (2, 1, 1.5), direction, padding)).sum()
    torch.testing.assert_close(there, back, rtol=1e-10, atol=1e-12)


def test_it_is_shift_equivariant():
    x = torch.zeros(1, 1, 12, 12, 12, dtype=torch.float64)
    x[..., 2:5, 3:6, 1:4] = random_map(3, 3, 3)
    field = dipole.forward(x, (1, 1, 2), OBLIQUE)
    moved = dipole.forward(x.roll((4, 3, 5), (2, 3, 4)), (1, 1, 2), OBLIQUE)
    torch.testing.assert_close(moved[..., 4:, 3:, 5:], field[..., :-4, :-3, :-5])


def test_no_source_acts_across_the_border_of_a_padded_grid():
    """On the far side the field is that of 15 voxels away along b, 2/(4π·15³), and not that of the next voxel."""
    x = torch.zeros(1, 1, 16, 16, 16, dtype=torch.float64)
    x[0, 0, 0, 8, 8] = 1
    circular, linear = (dipole.forward(x, (1, 1, 1), (1, 0, 0), padding)[0, 0, 15, 8, 8] for padding in (1, 2))
    assert circular.abs() > 0.05 and linear.abs() < 1e-3


@pytest.mark.parametrize("dims", [(2, 3), (2, 4), (3, 4)])
def test_turning_object_voxels_and_field_together_turns_the_result(dims):
    x, spacing, direction = random_map(1, 1, 6, 8, 10), [2.0, 1.0, 1.5], list(OBLIQUE)
    turned_spacing, turned_direction = list(spacing), list(direction)
    a, b = (dim - 2 for dim in dims)
    turned_spacing[a], turned_spacing[b] = spacing[b], spacing[a]
    turned_direction[a], turned_direction[b] = -direction[b], direction[a]  # rot90 takes the first axis to the second
    turned = dipole.forward(x.rot90(1, dims), turned_spacing, turned_direction)
    torch.testing.assert_close(turned, dipole.forward(x, spacing, direction).rot90(1, dims))


def test_neither_the_size_of_all_voxels_nor_the_fields_sign_matters():
    x = random_map(1, 1, 6, 8, 10)
    field = dipole.forward(x, (2.0, 1.0, 1.5), OBLIQUE)
    torch.testing.assert_close(dipole.forward(x, (6.0, 3.0, 4.5), OBLIQUE), field)
    torch.testing.assert_close(dipole.forward(x, (2.0, 1.0, 1.5), [-b for b in OBLIQUE]), field)
    assert (dipole.forward(x, (2.0, 1.0, 3.0), OBLIQUE) - field).abs().max() > 0.01


def test_a_batch_has_a_direction_and_a_spacing_each():
    x = random_map(3, 1, 6, 8, 5)
    spacings = torch.tensor([[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 1.5, 3.0]], dtype=torch.float64)
    directions = torch.tensor(DIRECTIONS, dtype=torch.float64)
    together = dipole.forward(x, spacings, directions)
    for index in range(3):
        alone = dipole.forward(x[index : index + 1], spacings[index], directions[index])
        torch.testing.assert_close(together[index : index + 1], alone)
    torch.testing.assert_close(dipole.forward(x, spacings[0], directions)[:1], together[:1])


def test_gradients():
    x = random_map(2, 1, 3, 4, 5).requires_grad_()
    directions = torch.tensor(DIRECTIONS[1:], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda chi: dipole.forward(chi, (2.0, 1.0, 1.0), directions), x)


def test_precision():
    x = random_map(1, 1, 8, 8, 8)
    exact = dipole.forward(x, (1, 1, 2), OBLIQUE)
    single = dipole.forward(x.float(), (1, 1, 2), OBLIQUE)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, atol=1e-6, rtol=0)
    half = dipole.forward(x.half(), (1, 1, 2), OBLIQUE)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), exact, atol=2e-3, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(dipole.forward(x.float(), (1, 1, 2), OBLIQUE), single)


def test_the_scanners_field_in_an_images_axes():
    np.testing.assert_allclose(field_direction(np.eye(3)), (1, 0, 0))  # along the array's first axis, z
    sagittal = [0, 0, 1, 1, 0, 0, 0, 1, 0]  # columns: x of the image runs along physical y, y along z, z along x
    np.testing.assert_allclose(field_direction(sagittal), (0, 1, 0))
    np.testing.assert_allclose(field_direction(np.eye(3), b0=(0, 3, 4)), (0.8, 0.6, 0))
    tilted = Rotation.from_euler("x", 30, degrees=True).as_matrix()
    np.testing.assert_allclose(field_direction(tilted.ravel()), (math.cos(math.pi / 6), 0.5, 0), atol=1e-15)
    anywhere = Rotation.random(rng=np.random.default_rng(0)).as_matrix()
    along = field_direction(anywhere)
    np.testing.assert_allclose(anywhere @ along[::-1], (0, 0, 1), atol=1e-14)


def test_two_scans_of_one_object_have_one_field():
    """The same physical voxels, stored with other axes first."""
    x = random_map(1, 1, 6, 8, 10)
    field = dipole.forward(x, (2.0, 1.0, 1.5), field_direction(np.eye(3)))
    sagittal = np.eye(3)[:, [1, 2, 0]]  # array order: physical x, z, y
    stored = x.permute(0, 1, 4, 2, 3)
    again = dipole.forward(stored, (1.5, 2.0, 1.0), field_direction(sagittal))
    torch.testing.assert_close(again, field.permute(0, 1, 4, 2, 3))


@pytest.mark.parametrize(
    "cosines, b0, match",
    [
        (np.eye(2), (0, 0, 1), "three axes at right angles, and are"),
        (np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1]]), (0, 0, 1), "at right angles"),
        (np.full((3, 3), np.nan), (0, 0, 1), "at right angles"),
        (np.eye(3), (0, 0, 0), r"the main field must be three numbers .* is \[0, 0, 0\]"),
        (np.eye(3), (0, 1), "the main field must be three numbers"),
    ],
)
def test_faulty_directions_are_sentences(cosines, b0, match):
    with pytest.raises(XModalError, match=match):
        field_direction(cosines, b0)
