"""The figure of cases under conditions: every panel is drawn, every label has its colour."""

from io import BytesIO

import matplotlib.image
import numpy as np
from matplotlib.colors import to_rgb

from nnunet_xmodal.evaluation.figures.conditions import COLOURS, Panel, Row, draw_rows


def picture(labels: np.ndarray, n_rows: int = 1) -> np.ndarray:
    image = np.linspace(0, 1, labels.size).reshape(labels.shape)
    rows = [Row({"case": [Panel("T2W", image)], "complete": [Panel("nnU-Net", image, labels, "Dice 90")]})] * n_rows
    file = BytesIO()
    draw_rows(rows, {1: "organ", 2: "lesion"}, file)
    file.seek(0)
    return matplotlib.image.imread(file)[..., :3]


def has_colour_above_legend(image: np.ndarray, colour: str) -> bool:
    above = image[: int(0.8 * len(image))]
    return bool((np.abs(above - to_rgb(colour)).max(-1) < 0.02).any())


def test_labels_that_a_panel_holds_are_outlined_in_their_colours():
    labels = np.zeros((20, 24), int)
    labels[4:16, 4:16] = 1
    without = picture(labels)
    assert has_colour_above_legend(without, COLOURS[0]) and not has_colour_above_legend(without, COLOURS[1])
    labels[8:12, 8:12] = 2
    assert has_colour_above_legend(picture(labels), COLOURS[1])


def test_a_row_more_is_as_high_as_another():
    labels = np.zeros((8, 8), int)
    heights = [len(picture(labels, n_rows)) for n_rows in (1, 2, 3)]
    assert abs((heights[2] - heights[1]) - (heights[1] - heights[0])) <= 1
