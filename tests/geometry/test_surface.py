import pytest
import torch
from scipy.ndimage import binary_erosion

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.surface import padded, sre, surface_points


def test_a_box_in_millimetres_from_the_centre_of_the_array():
    label = torch.zeros(7, 9, 11, dtype=torch.bool)
    label[2:5, 3:6, 4:7] = True
    points = surface_points(label, (3.0, 2.0, 1.0))
    assert points.shape == (26, 3) and points.dtype == torch.float64  # 27 but the one in the middle
    assert points.min(0).values.tolist() == [-1.0, -2.0, -3.0]  # x y z
    assert points.max(0).values.tolist() == [1.0, 2.0, 3.0]


def test_the_border_of_the_array_is_a_surface():
    assert len(surface_points(torch.ones(3, 4, 5), (1, 1, 1))) == 60 - 1 * 2 * 3
    assert len(surface_points(torch.ones(1, 4, 5), (1, 1, 1))) == 20


def test_it_is_what_erosion_takes_away():
    label = (torch.nn.functional.avg_pool3d(torch.rand(1, 1, 14, 15, 16), 3)[0, 0] > 0.5).numpy()
    points = surface_points(label, (1, 1, 1)) + (torch.tensor(label.shape).flip(0) - 1) / 2
    expected = torch.from_numpy(label & ~binary_erosion(label)).nonzero().flip(1)
    torch.testing.assert_close(points, expected.double())


def test_an_empty_label_is_a_sentence():
    with pytest.raises(XModalError, match=r"label on the grid \[4, 5, 6\] is empty"):
        surface_points(torch.zeros(4, 5, 6), (1, 1, 1))


def test_a_translation_moves_every_point_by_its_length():
    points = torch.randn(50, 3).double()
    shift = rigid_transform.matrix(torch.tensor([3.0, 0, 4, 0, 0, 0]).double())
    assert sre(shift, points).item() == pytest.approx(5, abs=1e-12)


def test_padding_does_not_count():
    cases = [torch.randn(n, 3).double() * 20 for n in (5, 17, 9)]
    points, exists = padded(cases)
    assert points.shape == (3, 17, 3) and exists.sum(1).tolist() == [5, 17, 9]
    matrices = rigid_transform.matrix(torch.randn(3, 6).double() * 5)
    each = torch.stack([sre(matrix, case) for matrix, case in zip(matrices, cases)])
    torch.testing.assert_close(sre(matrices, points, exists), each)
