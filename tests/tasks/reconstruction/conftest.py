"""Predictions without their figures."""

import pytest
from figures import one_pixel

from nnunet_xmodal.tasks.reconstruction import predictor, validation


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """A pixel for every figure, but in tests that ask for `drawn`."""
    if "drawn" not in request.fixturenames:
        for module in (predictor, validation):
            monkeypatch.setattr(module, "draw_planes", one_pixel)
