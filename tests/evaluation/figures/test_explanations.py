from io import BytesIO

import numpy as np
from PIL import Image

from nnunet_xmodal.evaluation.figures.heat import HeatPanel, draw_heat
from nnunet_xmodal.evaluation.figures.shapley_bars import Bars, draw_bars


def drawn(draw, *arguments) -> np.ndarray:
    file = BytesIO()
    draw(*arguments, file)
    return np.asarray(Image.open(file).convert("RGB"))


def test_bars_are_drawn_whatever_is_undefined():
    intervals = np.array([[-0.2, 0.1], [0.5, 0.9]])
    both = ((np.array([-0.1, 0.7]), intervals), (np.array([np.nan, np.nan]), None))
    panels = [Bars("lesion: Dice", "points", ["$T2W", "ADC"], values, bounds) for values, bounds in both]
    assert drawn(draw_bars, panels).min() < 255


def test_heat_is_where_the_map_is():
    image, heat = np.random.default_rng(0).normal(size=(20, 20)), np.zeros((20, 20))
    heat[2:6, 2:6] = 1
    mask = np.zeros((20, 20), bool)
    picture = drawn(draw_heat, [HeatPanel("a", image, heat, mask), HeatPanel("b", image, 0 * heat, ~mask)], 1.0)
    coloured = (np.ptp(picture.astype(int), axis=2) > 60).nonzero()
    assert len(coloured[0]) and coloured[1].max() < picture.shape[1] / 2  # none over the second panel
