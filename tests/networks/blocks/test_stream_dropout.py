from collections import Counter
from itertools import product

import pytest
import torch

from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams, StreamDropout

SAMPLES = 40_000


def drawn(probability, n_streams, samples=SAMPLES):
    return StreamDropout(probability)(torch.empty(samples, 1, 2, 2), n_streams)


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("n_streams", [1, 2, 3, 7])
def test_no_sample_loses_all_streams(probability, n_streams):
    present = drawn(probability, n_streams)
    assert present.shape == (SAMPLES, n_streams) and present.dtype == torch.bool
    assert present.any(1).all()


@pytest.mark.parametrize("probability", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("n_streams", [2, 3, 4])
def test_subsets_are_as_frequent_as_among_independent_draws_without_the_empty_one(probability, n_streams):
    counts = Counter(map(tuple, drawn(probability, n_streams).tolist()))
    not_empty = 1 - probability**n_streams
    for subset in product((False, True), repeat=n_streams):
        n = sum(subset)
        expected = (1 - probability) ** n * probability ** (n_streams - n) / not_empty if n else 0
        assert counts[subset] / SAMPLES == pytest.approx(expected, abs=0.01)


def test_samples_are_drawn_one_by_one():
    assert len(set(map(tuple, drawn(0.5, 2, samples=64).tolist()))) == 3


def test_nothing_is_dropped_in_eval_mode_and_with_probability_0():
    assert StreamDropout(0.5).eval()(torch.empty(4, 1, 2, 2), 3) is None
    assert drawn(0, 3).all()


@pytest.mark.parametrize("probability", [1, 1.5, -0.1, float("nan")])
def test_a_probability_that_leaves_nothing_is_refused(probability):
    with pytest.raises(ValueError, match=f"from 0 to below 1, got {probability!r}"):
        StreamDropout(probability)


@pytest.mark.parametrize("n_streams", [2, 3, 4])
def test_some_streams_are_any_but_none_and_all_and_equally_likely(n_streams):
    counts = Counter(map(tuple, SomeStreams()(torch.empty(SAMPLES, 1, 2, 2), n_streams).tolist()))
    expected = [subset for subset in product((False, True), repeat=n_streams) if any(subset) and not all(subset)]
    assert set(counts) == set(expected)
    assert all(count / SAMPLES == pytest.approx(1 / len(expected), abs=0.01) for count in counts.values())
    assert SomeStreams().eval()(torch.empty(4, 1, 2, 2), n_streams) is None
