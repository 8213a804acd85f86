import numpy as np
from skimage.io import imread

from nnunet_xmodal.evaluation.figures.planes import ShownVolume, draw_planes, window


def test_windows_are_percentiles_inside_the_mask_and_never_empty():
    values = np.zeros((10, 10, 10))
    mask = np.zeros(values.shape, bool)
    mask[2:8] = True
    values[~mask] = 1e6
    values[mask] = np.linspace(-1, 1, mask.sum())
    low, high = window(values, mask)
    np.testing.assert_allclose((low, high), (-0.99, 0.99), atol=1e-3)
    for constant in (0.0, 7.0):
        low, high = window(np.full((3, 3, 3), constant), np.ones((3, 3, 3), bool))
        assert high > low


def test_a_cube_shows_in_all_three_planes_through_the_mask_and_nowhere_else(tmp_path):
    values, mask = np.zeros((20, 40, 30)), np.zeros((20, 40, 30), bool)
    mask[2:6, 30:38, 3:9] = True
    pictures = []
    for name, shown in (("without", values), ("with", values + mask)):
        draw_planes([ShownVolume("cube (ppm)", shown, 0, 1)], mask, (2.0, 1.0, 1.0), tmp_path / f"{name}.png")
        pictures.append(imread(tmp_path / f"{name}.png")[..., 0].astype(int))
    changed = np.array_split(pictures[1] - pictures[0], 3, axis=1)
    sizes = [(panel == 255).sum() for panel in changed]
    assert min(sizes) > 50 and all((panel >= 0).all() for panel in changed)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["with.png", "without.png"]


def test_an_empty_mask_shows_the_middle(tmp_path):
    empty = np.zeros((4, 5, 6), bool)
    draw_planes([ShownVolume("nothing", np.zeros((4, 5, 6)), 0, 1)] * 2, empty, (1, 1, 1), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").stat().st_size > 0
