import pytest
import SimpleITK as sitk
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.warp import warp


def smooth_volume(*shape):
    coarse = torch.rand(1, 1, *[max(2, side // 3) for side in shape], dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")


def resampled_by_simpleitk(moving, matrix, spacing, interpolator=sitk.sitkLinear):
    """On a grid whose centre is the physical origin, which is where the transform's coordinates have theirs."""
    image = sitk.GetImageFromArray(moving[0, 0].numpy())
    image.SetSpacing(spacing[::-1])
    image.SetOrigin([-(side - 1) / 2 * mm for side, mm in zip(image.GetSize(), image.GetSpacing())])
    back = rigid_transform.inverse(matrix)
    affine = sitk.AffineTransform(3)
    affine.SetMatrix(back[:3, :3].flatten().tolist())
    affine.SetTranslation(back[:3, 3].tolist())
    return torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(image, image, affine, interpolator)))


def interior(shape, matrix, spacing):
    """Voxels that read at least a voxel away from the border."""
    centre = (torch.tensor(shape).double() - 1) / 2
    indices = torch.cartesian_prod(*[torch.arange(side).double() for side in shape])
    spacing = torch.tensor(spacing).double()
    points = ((indices - centre) * spacing).flip(1)
    read = rigid_transform.apply(rigid_transform.inverse(matrix), points).flip(1) / spacing + centre
    return ((read > 1) & (read < 2 * centre - 1)).all(1).view(shape)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape, spacing", [((12, 20, 17), (1.0, 1.0, 1.0)), ((9, 24, 31), (2.9, 0.6, 0.8))])
def test_it_is_simpleitks_resampling(shape, spacing, dtype):
    moving = torch.rand(1, 1, *shape, dtype=torch.float64)
    for _ in range(3):
        matrix = rigid_transform.matrix((torch.rand(6).double() * 2 - 1) * torch.tensor([3.0, 3, 3, 15, 15, 15]))
        ours = warp(moving.to(dtype), matrix[None].to(dtype), torch.tensor([spacing]).to(dtype))[0, 0]
        inside = interior(shape, matrix, spacing)
        assert inside.sum() > 300
        expected = resampled_by_simpleitk(moving, matrix, spacing)
        torch.testing.assert_close(ours.double()[inside], expected[inside], atol=1e-4, rtol=0)


@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-12)])
def test_a_translation_by_whole_voxels_moves_them(padding, dtype, tolerance):
    """T maps moving to fixed: what was at index i is then at i + shift."""
    moving, spacing = torch.rand(2, 1, 8, 10, 12, dtype=dtype), torch.tensor([[3.0, 2.0, 0.5], [1.0, 1.5, 2.0]])
    shift = torch.tensor([1, -2, 3])  # z y x
    millimetres = (shift * spacing).flip(1)
    matrix = rigid_transform.matrix(torch.cat([millimetres, torch.zeros(2, 3)], 1).to(dtype))
    warped = warp(moving, matrix, spacing, padding=padding)
    torch.testing.assert_close(warped[:, :, 1:, :-2, 3:], moving[:, :, :-1, 2:, :-3], atol=tolerance, rtol=0)
    beyond = warped[:, :, 0, :-2, 3:]
    expected = torch.zeros_like(beyond) if padding == "zeros" else moving[:, :, 0, 2:, :-3]
    torch.testing.assert_close(beyond, expected, atol=tolerance, rtol=0)


def test_the_identity_gives_the_image_back_also_of_one_slice():
    for shape in [(8, 9, 10), (1, 7, 6)]:
        moving = torch.rand(2, 3, *shape)
        torch.testing.assert_close(warp(moving, torch.eye(4), torch.tensor([2.0, 1.0, 1.0])), moving, atol=1e-5, rtol=0)


def ramp(*shape):
    """Linear, so that trilinear interpolation is exact on it."""
    return sum(
        weight * torch.arange(side).double().view([-1 if axis == other else 1 for other in range(3)])
        for axis, (side, weight) in enumerate(zip(shape, (1.0, -0.7, 0.4)))
    )[None, None]


def test_there_and_back():
    moving, spacing = ramp(24, 26, 28), torch.tensor([[1.2, 1.0, 0.9]]).double()
    matrix = rigid_transform.matrix(torch.tensor([[1.5, -2.0, 1.0, 5.0, -4.0, 6.0]]).double())
    back = warp(warp(moving, matrix, spacing), rigid_transform.inverse(matrix), spacing)
    inner = (..., slice(7, -7), slice(7, -7), slice(7, -7))
    torch.testing.assert_close(back[inner], moving[inner], atol=1e-9, rtol=0)


def test_one_composed_transform_is_two_after_another():
    moving, spacing = ramp(24, 26, 28), torch.tensor([1.2, 1.0, 0.9]).double()
    a, b = rigid_transform.matrix(torch.tensor([[1.0, -2, 1, 4, -3, 5], [-1.5, 1, 0, -2, 6, 1]]).double())
    inner = (..., slice(7, -7), slice(7, -7), slice(7, -7))
    one_after_other = warp(warp(moving, b, spacing), a, spacing)
    torch.testing.assert_close(warp(moving, a @ b, spacing)[inner], one_after_other[inner], atol=1e-9, rtol=0)


def test_labels_stay_labels_and_are_simpleitks():
    label = (3 * smooth_volume(12, 16, 20)).round()
    spacing = (2.0, 1.1, 0.9)
    matrix = rigid_transform.matrix(torch.tensor([1.3, -2.2, 0.7, 4, 9, -7]).double())
    warped = warp(label, matrix, torch.tensor(spacing), mode="nearest")
    assert set(warped.unique().tolist()) <= set(label.unique().tolist()) | {0.0}
    inside = interior(label.shape[2:], matrix, spacing)
    expected = resampled_by_simpleitk(label, matrix, spacing, sitk.sitkNearestNeighbor)
    assert (warped[0, 0] == expected)[inside].all()


def test_every_case_has_its_own_transform_and_spacing():
    moving = torch.rand(3, 2, 6, 7, 8).double()
    matrices = rigid_transform.matrix(torch.randn(3, 6).double() * 2)
    spacing = 1 + torch.rand(3, 3).double()
    together = warp(moving, matrices, spacing)
    for case in range(3):
        alone = warp(moving[case, None], matrices[case, None], spacing[case, None])[0]
        torch.testing.assert_close(together[case], alone)


def test_gradients_reach_image_and_transform():
    moving = torch.rand(1, 1, 4, 5, 6).double().requires_grad_()
    p = torch.tensor([[0.3, 0.2, -0.4, 3.0, 2.0, -1.0]]).double().requires_grad_()
    spacing = torch.tensor([[1.3, 1.0, 0.8]]).double()
    assert torch.autograd.gradcheck(lambda m, q: warp(m, rigid_transform.matrix(q), spacing), (moving, p), atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    moving, matrix = torch.rand(1, 1, 8, 40, 40), rigid_transform.matrix(torch.tensor([[1.0, 2, 3, 4, 5, 6]]))
    expected = warp(moving.to(dtype).float(), matrix, torch.ones(1, 3)).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = warp(moving.to(dtype), matrix, torch.ones(1, 3))
    assert ours.dtype == dtype and torch.equal(ours, expected)


def test_a_smaller_grid_is_the_middle_of_the_whole_one():
    moving, spacing = torch.rand(2, 1, 10, 12, 14).double(), torch.tensor([3.0, 2.0, 1.5])
    matrix = rigid_transform.matrix(torch.tensor([[2.0, -3, 4, 10, 5, -20], [0.0, 1, 0, 0, 30, 3]]).double())
    whole = warp(moving, matrix, spacing)
    torch.testing.assert_close(warp(moving, matrix, spacing, size=(4, 6, 10)), whole[:, :, 3:7, 3:9, 2:12])


def test_a_grid_of_another_spacing_reads_where_its_voxels_lie():
    """The image is its own coordinate, z in millimetres, which interpolation gives back exactly."""
    spacing, onto = torch.tensor([2.0, 1.0, 1.5]).double(), torch.tensor([3.0, 2.5, 0.5]).double()
    z = ((torch.arange(20) - 9.5) * 2.0).double().view(1, 1, 20, 1, 1).expand(1, 1, 20, 24, 16)
    matrix = rigid_transform.matrix(torch.tensor([1.0, 2, -3, 10, -5, 20]).double())
    axes = [(torch.arange(side).double() - (side - 1) / 2) * mm for side, mm in zip((4, 5, 6), onto)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flip(-1).view(-1, 3)
    expected = rigid_transform.apply(rigid_transform.inverse(matrix), points)[:, 2].view(1, 1, 4, 5, 6)
    torch.testing.assert_close(warp(z, matrix, spacing, size=(4, 5, 6), spacing_onto=onto), expected)
