"""When a training stops because its loss is no number any more."""

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.finite import SKIPPED_IN_A_ROW, FiniteLosses

NAN = {"loss": float("nan"), "segmentation": 1.0}
STOPS = r"the loss \(loss\) turned NaN or infinite in epoch 7"


def test_without_a_scaler_the_first_one_stops():
    losses = FiniteLosses()
    losses.check({"loss": 1.0}, 7, scaled=False)
    with pytest.raises(XModalError, match=STOPS):
        losses.check(NAN, 7, scaled=False)


def test_a_scaler_may_skip_steps_until_its_scale_is_spent():
    losses = FiniteLosses()
    for _ in range(2):  # a finite one begins the count anew
        for _ in range(SKIPPED_IN_A_ROW - 1):
            losses.check(NAN, 7, scaled=True)
        losses.check({"loss": 1.0}, 7, scaled=True)
    for _ in range(SKIPPED_IN_A_ROW - 1):
        losses.check({"loss": float("inf")}, 7, scaled=True)
    with pytest.raises(XModalError, match=STOPS):
        losses.check({"loss": float("inf")}, 7, scaled=True)
