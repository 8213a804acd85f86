"""Names as matplotlib draws them."""

from io import BytesIO

import numpy as np
import pytest

from nnunet_xmodal.evaluation.figures.cases import CasePanels, draw_cases
from nnunet_xmodal.evaluation.figures.conditions import Panel, Row, draw_rows

NAMES = ["cost_$5_vs_$6", "a$_$", "_left", "{x}^2"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_models_channels_labels_and_cases_are_no_formulas(name):
    image, label = np.zeros((8, 8)), np.eye(8, dtype=int)
    file = BytesIO()
    draw_cases([CasePanels(name, {name: image}, label, {name: label}, {name: 0.5})], file)
    assert file.getvalue()[:4] == b"\x89PNG"
    file = BytesIO()
    draw_rows([Row({name: [Panel(name, image, label, name)]}, 1.0)], {1: name}, file)
    assert file.getvalue()[:4] == b"\x89PNG"
