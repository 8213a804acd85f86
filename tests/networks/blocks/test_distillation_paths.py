from math import comb

import pytest
import torch

from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths


class Named(torch.nn.Module):
    """Stands in for the AMGB: tells which features, at which size, a map was made of."""

    def forward(self, features, size=None):
        stream, level = features.flatten()[:2].tolist()
        size = tuple(features.shape[2:]) if size is None else tuple(size)
        return f"stream {stream:.0f} level {level:.0f}", size


def features_of(streams, levels):
    """The first two numbers are the stream and the level; sides 16, 8, 4, …"""
    result = []
    for stream in range(streams):
        result.append([torch.randn(1, 2, 16 >> level, 16 >> level) for level in range(levels)])
        for level, features in enumerate(result[-1]):
            features.view(-1)[:2] = torch.tensor([stream, level])
    return result


def pairs_of(scheme, streams, levels):
    """A set of sets, because the loss is symmetric, of `(which map, its size)`."""
    pairs = DistillationPaths(scheme, Named())(features_of(streams, levels))
    assert len(pairs) == len({frozenset(pair) for pair in pairs}), "one pair twice"
    return {frozenset(pair) for pair in pairs}


@pytest.mark.parametrize("levels", [2, 3, 5])
@pytest.mark.parametrize("streams", [2, 3, 4])
def test_number_of_terms(streams, levels):
    assert len(pairs_of("ILC", streams, levels)) == comb(streams, 2) * 2 * (levels - 1)  # Eq. 3
    assert len(pairs_of("PLC", streams, levels)) == comb(streams, 2) * levels


@pytest.mark.parametrize("scheme", ["ILC", "PLC"])
def test_one_stream_has_one_term_less_than_levels(scheme):
    assert pairs_of(scheme, 1, 3) == {
        frozenset({("stream 0 level 0", (16, 16)), ("stream 0 level 1", (16, 16))}),
        frozenset({("stream 0 level 1", (8, 8)), ("stream 0 level 2", (8, 8))}),
    }


def test_interlaced_is_a_level_with_the_next_of_the_other_stream_at_the_shallower_size():
    assert pairs_of("ILC", 2, 3) == {
        frozenset({("stream 0 level 0", (16, 16)), ("stream 1 level 1", (16, 16))}),
        frozenset({("stream 1 level 0", (16, 16)), ("stream 0 level 1", (16, 16))}),
        frozenset({("stream 0 level 1", (8, 8)), ("stream 1 level 2", (8, 8))}),
        frozenset({("stream 1 level 1", (8, 8)), ("stream 0 level 2", (8, 8))}),
    }


def test_parallel_is_a_level_with_the_same_of_the_other_stream():
    assert pairs_of("PLC", 2, 3) == {
        frozenset({(f"stream 0 level {level}", (side, side)), (f"stream 1 level {level}", (side, side))})
        for level, side in enumerate((16, 8, 4))
    }


@pytest.mark.parametrize("scheme", ["ILC", "PLC"])
def test_many_streams_are_their_pairs_taken_alone(scheme):
    features = features_of(3, 3)
    paths = DistillationPaths(scheme, AttentionMapGenerationBlock())
    together = paths(features)
    alone = [pair for k, other in ((0, 1), (0, 2), (1, 2)) for pair in paths([features[k], features[other]])]
    assert len(together) == len(alone)
    for pair, expected in zip(together, alone):
        assert torch.equal(pair[0], expected[0]) and torch.equal(pair[1], expected[1])


@pytest.mark.parametrize("scheme", ["ILC", "PLC"])
def test_a_pair_that_lacks_a_stream_is_twice_the_same_map_and_teaches_nothing(scheme):
    """A loop over pairs of streams and samples: what both have is what it was, all else is equal."""
    features = [[f.expand(4, -1, -1, -1).clone() for f in levels] for levels in features_of(3, 3)]
    paths = DistillationPaths(scheme, AttentionMapGenerationBlock())
    present = torch.tensor([[True, True, True], [True, True, False], [False, True, True], [False, False, True]])
    whole, pairs = iter(paths(features)), iter(paths(features, present))
    for streams in ([0, 1], [0, 2], [1, 2]):
        for _ in range(4 if scheme == "ILC" else 3):
            (a, b), (a_whole, b_whole) = next(pairs), next(whole)
            for sample, row in enumerate(present):
                assert torch.equal(a[sample], a_whole[sample])
                assert torch.equal(b[sample], (b_whole if row[streams].all() else a)[sample])

    leaves = [[f.requires_grad_() for f in levels] for levels in features]
    AttentionDistillationLoss()(paths(leaves, present)).backward()
    for stream, levels in enumerate(leaves):
        for f in levels:
            assert (f.grad[~present[:, stream]] == 0).all()
            assert (f.grad[3] == 0).all()  # of the last sample one stream is there, which has nobody to agree with


@pytest.mark.parametrize("scheme", ["NLC", "ilc", None])
def test_scheme_must_be_known(scheme):
    with pytest.raises(ValueError, match=f"connection scheme must be one of ILC, PLC, got {scheme!r}"):
        DistillationPaths(scheme, AttentionMapGenerationBlock())


@pytest.mark.parametrize("scheme", ["ILC", "PLC"])
def test_levels_above_the_first_one_have_no_pairs(scheme):
    features = features_of(2, 4)
    deeper = DistillationPaths(scheme, Named())([stream[2:] for stream in features])
    assert DistillationPaths(scheme, Named(), first_level=3)(features) == deeper
    with pytest.raises(ValueError, match=f"{scheme} from level 5 leaves no pair of 4 levels"):
        DistillationPaths(scheme, Named(), first_level=5)(features)
    with pytest.raises(ValueError, match="levels are counted from 1, got first_level 0"):
        DistillationPaths(scheme, Named(), first_level=0)


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_the_deeper_map_of_a_pair_is_the_target(streams):
    features = [[level.requires_grad_() for level in stream] for stream in features_of(streams, 3)]
    amgb = AttentionMapGenerationBlock()
    stopped = DistillationPaths("ILC", amgb, stop_gradient=True)(features)
    free = DistillationPaths("ILC", amgb)(features)
    for (a, b), (free_a, free_b) in zip(stopped, free, strict=True):
        assert torch.equal(a, free_a) and torch.equal(b, free_b)
        assert a.requires_grad and free_a.requires_grad and free_b.requires_grad and not b.requires_grad


def test_in_pairs_of_the_same_level_both_learn():
    features = [[level.requires_grad_() for level in stream] for stream in features_of(2, 3)]
    pairs = DistillationPaths("PLC", AttentionMapGenerationBlock(), stop_gradient=True)(features)
    assert all(a.requires_grad and b.requires_grad for a, b in pairs)
