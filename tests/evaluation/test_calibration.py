"""Calibration: naive loops, what libraries say, and temperatures that are known beforehand."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from nnunet_xmodal.evaluation.calibration import (
    BINS,
    TEMPERATURES,
    at_temperature,
    best_temperature,
    judged_box,
    nll_by_temperature,
    reliability,
)
from nnunet_xmodal.evaluation.case_metrics import NO_THICKNESS


@pytest.fixture
def voxels():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=500) ** 2
    return np.append(p, [0.0, 1.0]), np.append(rng.uniform(size=500) < p**2, [False, True])


def softmax(logits):
    powers = np.exp(logits - logits.max(0))
    return powers / powers.sum(0)


def test_error_bin_by_bin(voxels):
    p, y = voxels
    expected = 0.0
    for number in range(BINS):
        inside = [k for k in range(len(p)) if number <= p[k] * BINS < number + 1 or (number == BINS - 1 and p[k] == 1)]
        if inside:
            mean, share = sum(p[k] for k in inside) / len(inside), sum(y[k] for k in inside) / len(inside)
            expected += len(inside) / len(p) * abs(mean - share)
    assert reliability(p, y).ece == pytest.approx(expected)
    assert reliability(p, y).brier == pytest.approx(brier_score_loss(y, p))


def test_error_is_that_of_torchmetrics(voxels):
    torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed: pip install torchmetrics")
    import torch

    p, y = (torch.from_numpy(values) for values in voxels)
    theirs = torchmetrics.functional.classification.binary_calibration_error(p, y.int(), n_bins=BINS, norm="l1")
    assert reliability(*voxels).ece == pytest.approx(theirs.item(), abs=1e-6)


def test_sums_of_parts_are_those_of_the_whole(voxels):
    p, y = voxels
    whole, parts = reliability(p, y), reliability(p[:100], y[:100]) + reliability(p[100:], y[100:])
    assert parts.ece == pytest.approx(whole.ece) and parts.brier == pytest.approx(whole.brier)
    assert np.isnan(reliability(p[:0], y[:0]).ece)


@pytest.mark.parametrize("regions", [False, True])
def test_scaled_probabilities_are_those_of_scaled_logits(regions):
    logits = np.random.default_rng(1).normal(size=(3, 50), scale=3)
    make = (lambda z: 1 / (1 + np.exp(-z))) if regions else softmax
    np.testing.assert_allclose(at_temperature(make(logits), 1.7, regions), make(logits / 1.7), atol=1e-9)
    assert at_temperature(logits, 1, regions) is logits


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("temperature", [0.6, 1.0, 2.5])
def test_the_temperature_of_a_model_that_is_too_sure_by_a_known_factor_is_found(temperature, regions):
    rng = np.random.default_rng(2)
    true = rng.normal(size=(3, 20000), scale=1.5)
    if regions:
        truth = rng.uniform(size=true.shape) < 1 / (1 + np.exp(-true))
        said = 1 / (1 + np.exp(-true * temperature))
    else:
        drawn = (softmax(true).cumsum(0) < rng.uniform(size=true.shape[1])).sum(0)
        truth, said = np.arange(3)[:, None] == drawn, softmax(true * temperature)
    curve = nll_by_temperature(said, truth, regions)
    assert best_temperature([curve]) == pytest.approx(temperature, rel=0.05)
    k = 40  # TEMPERATURES[40] is 1
    naive = [np.log(said[truth]).sum() + (np.log(1 - said[~truth]).sum() if regions else 0)]
    assert TEMPERATURES[k] == pytest.approx(1) and curve[k] == pytest.approx(-naive[0] / true.shape[1], rel=1e-6)


def test_voxels_within_ten_millimetres_are_judged():
    reference = np.zeros((9, 40, 40), bool)
    reference[4, 20, 18:22] = True
    assert judged_box(reference, (5.0, 1.0, 2.0)) == (slice(2, 7), slice(10, 31), slice(13, 27))
    assert judged_box(reference[4:5], (NO_THICKNESS, 1.0, 1.0))[0] == slice(0, 1)
    assert judged_box(reference & False, (5.0, 1.0, 2.0)) is None
