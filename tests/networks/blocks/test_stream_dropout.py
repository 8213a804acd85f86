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


@pytest.mark.parametrize("given", [(True, False, True), (False, True, False), (True, True, True)])
def test_what_a_sample_lacks_is_not_drawn_and_the_rest_as_if_there_were_no_other_streams(given):
    """One draw for both kinds, of samples of which each has these streams."""
    x, n = torch.empty(SAMPLES, 1, 2, 2), sum(given)
    has = torch.tensor([given]).expand(SAMPLES, -1)
    for draw, probability in ((StreamDropout(0.3), 0.3), (SomeStreams(), None)):
        present = draw(x, 3, has)
        assert present.any(1).all() and not (present & ~has).any()
        assert draw.eval()(x, 3, has) is has
        counts = Counter(map(tuple, present[:, torch.tensor(given)].tolist()))
        subsets = [subset for subset in product((False, True), repeat=n) if any(subset)]
        if probability is None:
            expected = {subset: 1 / (2**n - 2) for subset in subsets if not all(subset)} if n > 1 else {(True,): 1.0}
        else:
            share = {s: 0.7 ** sum(s) * 0.3 ** (n - sum(s)) for s in subsets}
            expected = {subset: value / sum(share.values()) for subset, value in share.items()}
        assert set(counts) == set(expected)
        assert all(counts[subset] / SAMPLES == pytest.approx(value, abs=0.01) for subset, value in expected.items())


def test_samples_of_a_batch_are_drawn_of_what_each_has():
    has = torch.tensor([[True, False, False], [False, True, True], [False, False, True]]).repeat(50, 1)
    for draw in (StreamDropout(0.999), SomeStreams()):
        present = draw(torch.empty(150, 1, 2, 2), 3, has)
        assert present.any(1).all() and not (present & ~has).any()
