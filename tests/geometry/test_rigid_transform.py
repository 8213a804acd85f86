import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import sre


def random_parameters(*shape, translation=30.0, angle=89.0, dtype=torch.float64):
    limits = torch.tensor([translation] * 3 + [angle] * 3, dtype=dtype)
    return (2 * torch.rand(*shape, 6, dtype=dtype) - 1) * limits


def random_rotations(n):
    return torch.from_numpy(Rotation.random(n, rng=np.random.default_rng(0)).as_matrix())


def test_it_is_rz_ry_rx_in_degrees():
    p = random_parameters(50)
    expected = Rotation.from_euler("ZYX", p[:, [5, 4, 3]].numpy(), degrees=True).as_matrix()
    m = rigid_transform.matrix(p)
    np.testing.assert_allclose(m[:, :3, :3], expected, atol=1e-14)
    assert torch.equal(m[:, :3, 3], p[:, :3])
    assert torch.equal(m[:, 3], torch.tensor([0.0, 0, 0, 1], dtype=torch.float64).expand(50, 4))


def test_it_is_simpleitks_euler_transform_of_zyx():
    p = random_parameters()
    euler = sitk.Euler3DTransform()
    euler.SetComputeZYX(True)
    euler.SetRotation(*torch.deg2rad(p[3:]).tolist())
    euler.SetTranslation(p[:3].tolist())
    point = [3.0, -5.0, 7.0]
    ours = rigid_transform.apply(rigid_transform.matrix(p), torch.tensor([point], dtype=torch.float64))[0]
    np.testing.assert_allclose(ours, euler.TransformPoint(point), atol=1e-12)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-9), (torch.float32, 1e-3)])
def test_parameters_come_back_from_their_matrix(dtype, tolerance):
    p = random_parameters(7, 30, dtype=dtype)
    p[..., [3, 5]] *= 2  # the other two angles come back up to 180°
    torch.testing.assert_close(rigid_transform.parameters(rigid_transform.matrix(p)), p, atol=tolerance, rtol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_matrices_come_back_from_their_parameters_everywhere(dtype, tolerance):
    """Also where the middle rotation is 90°, exactly and nearly, and only the sum of the others counts."""
    locked = random_parameters(60, dtype=torch.float64)
    locked[..., 4] = 90 * torch.where(torch.arange(60) % 2 == 0, 1, -1)
    locked[20:, 4] -= 10.0 ** -torch.linspace(1, 14, 40, dtype=torch.float64)
    exactly = torch.tensor([[[0.0, 0, s], [0, 1, 0], [-s, 0, 0]] for s in (1, -1)]).double()
    rotations = torch.cat(
        [random_rotations(200), rigid_transform.matrix(locked)[:, :3, :3], exactly, torch.eye(3)[None]]
    )
    m = rigid_transform.from_parts(rotations, torch.randn(len(rotations), 3).double()).to(dtype)
    again = rigid_transform.matrix(rigid_transform.parameters(m))
    torch.testing.assert_close(again, m, atol=tolerance, rtol=0)


def test_gradients_are_those_of_differences_and_finite_at_the_lock():
    p = random_parameters(3).requires_grad_()
    assert torch.autograd.gradcheck(rigid_transform.matrix, p)
    assert torch.autograd.gradcheck(lambda q: rigid_transform.parameters(rigid_transform.matrix(q)), p)
    locked = torch.eye(4)
    locked[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
    locked.requires_grad_()
    rigid_transform.parameters(locked).sum().backward()
    assert torch.isfinite(locked.grad).all()


def test_inverse_and_composition():
    a, b = (rigid_transform.matrix(random_parameters(9, angle=180)) for _ in range(2))
    torch.testing.assert_close(rigid_transform.inverse(a) @ a, torch.eye(4).double().expand(9, 4, 4))
    points = torch.randn(9, 5, 3).double()
    one_after_other = rigid_transform.apply(a, rigid_transform.apply(b, points))
    torch.testing.assert_close(rigid_transform.apply(a @ b, points), one_after_other)


def test_about_another_origin_moves_the_same_points_to_the_same_places():
    t = rigid_transform.matrix(random_parameters(4))
    centre, points = torch.randn(4, 3).double() * 50, torch.randn(4, 6, 3).double() * 50
    there = rigid_transform.about(t, centre)
    moved = rigid_transform.apply(there, points - centre[:, None]) + centre[:, None]
    torch.testing.assert_close(moved, rigid_transform.apply(t, points))
    torch.testing.assert_close(rigid_transform.about(there, -centre), t)
    assert rigid_transform.about(t[0], centre).shape == (4, 4, 4)


def test_the_target_of_a_start_leads_to_the_truth_and_minus_p_does_not():
    """M(target)·base = T_gt with target = decompose(M(p)⁻¹), to 1e-9 in float64."""
    p, truth = random_parameters(100), rigid_transform.matrix(random_parameters(100))
    base = rigid_transform.matrix(p) @ truth
    target = rigid_transform.parameters(rigid_transform.inverse(rigid_transform.matrix(p)))
    torch.testing.assert_close(rigid_transform.matrix(target) @ base, truth, atol=1e-9, rtol=0)
    assert not torch.allclose(rigid_transform.matrix(-p) @ base, truth, atol=1.0)


def test_the_error_of_a_start_is_how_far_its_perturbation_moves_the_surface():
    """SRE(M(p)·T_gt) = mean ‖M(p)m − m‖ to 1e-9 in float64, whatever T_gt is."""
    p, truth = random_parameters(100), rigid_transform.matrix(random_parameters(100))
    points = torch.randn(100, 40, 3).double() * 30
    m = rigid_transform.matrix(p)
    moved = (rigid_transform.apply(m, points) - points).norm(dim=-1).mean(-1)
    torch.testing.assert_close(sre(m @ truth, points, truth=truth), moved, atol=1e-9, rtol=0)
    torch.testing.assert_close(sre(m, points), moved, atol=1e-9, rtol=0)
    assert sre(truth, points, truth=truth).max() < 1e-12


def test_the_mean_of_two_is_half_the_way():
    a = rigid_transform.matrix(random_parameters())
    quarter = rigid_transform.matrix(torch.tensor([2.0, -4, 6, 0, 0, 90]).double())
    expected = a @ rigid_transform.matrix(torch.tensor([0.0, 0, 0, 0, 0, 45]).double())
    mean = rigid_transform.mean_se3(torch.stack([a, a @ quarter]))
    torch.testing.assert_close(mean[:3, :3], expected[:3, :3])
    torch.testing.assert_close(mean[:3, 3], (a[:3, 3] + (a @ quarter)[:3, 3]) / 2)


def test_the_mean_is_that_of_rotations_not_of_angles():
    matrices = rigid_transform.matrix(random_parameters(6, 4, angle=60))
    mean = rigid_transform.mean_se3(matrices)  # 4 4 4
    assert mean.shape == (4, 4, 4)
    for index in range(4):
        expected = Rotation.from_matrix(matrices[:, index, :3, :3].numpy()).mean().as_matrix()
        np.testing.assert_allclose(mean[index, :3, :3], expected, atol=1e-10)
    around_180 = rigid_transform.matrix(torch.tensor([[0.0, 0, 0, 0, 0, 179], [0, 0, 0, 0, 0, -179]]).double())
    torch.testing.assert_close(rigid_transform.mean_se3(around_180)[0, 0], torch.tensor(-1.0).double())


def test_the_mean_of_one_is_itself_and_of_many_is_rigid():
    many = rigid_transform.matrix(random_parameters(5, angle=180))
    torch.testing.assert_close(rigid_transform.mean_se3(many[:1]), many[0])
    rotation = rigid_transform.mean_se3(many)[:3, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3).double())
    assert torch.linalg.det(rotation) > 0


@pytest.mark.parametrize("angle", [0.0, 1e-7, 3.0, 90.0, 179.9999, 180.0])
def test_rotation_angle_near_both_ends(angle):
    axis = np.array([1.0, -2, 0.5]) / np.linalg.norm([1.0, -2, 0.5])
    rotation = torch.from_numpy(Rotation.from_rotvec(axis * angle, degrees=True).as_matrix())
    measured = rigid_transform.rotation_angle(rigid_transform.from_parts(rotation, torch.zeros(3).double()))
    assert measured.item() == pytest.approx(angle, abs=1e-9)
