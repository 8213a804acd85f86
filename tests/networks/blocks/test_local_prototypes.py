import math

import pytest
import torch
from fast_ones import one_fast_in

from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes, LocalPrototypes


def cosine(a, b):
    return float(a @ b) / (max(float(a.norm()), 1e-4) * max(float(b.norm()), 1e-4))


def score_by_loop(prototypes, position):
    """Eq. 4 and 5 for a list of prototypes."""
    if not prototypes:
        return -20.0
    s = torch.tensor([20 * cosine(p, position) for p in prototypes], dtype=torch.float64)
    weights = s.exp() / s.exp().sum()
    return float((weights * s).sum())


def window_of(size, windows):
    """So many positions along y and x that `windows` of them cover a side."""
    return tuple(math.ceil(side / windows) for side in size)


def windows(side, window):
    return [range(start, min(start + window, side)) for start in range(0, side, window)]


def mean_in(values, rows, columns):
    cells = [values[..., y, x] for y in rows for x in columns]
    return sum(cells) / len(cells)


def class_prototype(support, masks):
    height, width = masks.shape[1:]
    total = sum(mask[y, x] * f[:, y, x] for f, mask in zip(support, masks) for y in range(height) for x in range(width))
    return total / masks.sum()


def prototypes_by_loop(support, mask, window, large_window, threshold=0.95):
    """Lists of prototypes of background and foreground, for one sample `(S, C, h, w)` and `(S, h, w)`."""
    lists = []
    for masks in (1 - mask, mask):
        local, large = [], False
        for f, m in zip(support, masks):
            for rows in windows(m.shape[0], window[0]):
                for columns in windows(m.shape[1], window[1]):
                    if mean_in(m, rows, columns) > threshold:
                        local.append(mean_in(f, rows, columns))
            large |= any(
                mean_in(m, rows, columns) >= threshold
                for rows in windows(m.shape[0], large_window[0])
                for columns in windows(m.shape[1], large_window[1])
            )
        foreground = len(lists) == 1
        if foreground and not large:
            local = []
        if masks.sum() > 0 and (foreground or not local):
            local.append(class_prototype(support, masks))
        lists.append(local)
    return lists


def scores_by_loop(lists, query):
    height, width = query.shape[1:]
    return torch.tensor(
        [
            [[score_by_loop(prototypes, query[:, y, x]) for x in range(width)] for y in range(height)]
            for prototypes in lists
        ],
        dtype=torch.float64,
    )


def masks_of(kind, shots, height, width):
    mask = torch.zeros(shots, height, width, dtype=torch.float64)
    if kind == "big":
        mask[0, 2:9, 1:9] = 1
        mask[0, 2, 1] = 0.4
    elif kind == "small":
        mask[:, 3:6, 1:3] = torch.rand(shots, 3, 2, dtype=torch.float64)
    elif kind == "big in the last":
        mask[0, 0, 0] = 1
        mask[-1, 4:8, 4:8] = 1
    elif kind == "full":
        mask[:] = 1
    elif kind == "nearly full":
        mask[:] = 1
        mask[:, ::2, ::2] = 0.7
    return mask


@pytest.mark.parametrize(
    "fixed, shots, height, width, training, kind",
    one_fast_in(
        5,
        [
            (fixed, *of, training, kind)
            for fixed in (True, False)
            for of in ((1, 12, 12), (2, 12, 8), (2, 11, 9), (1, 10, 3))
            for training in (True, False)
            for kind in ("big", "small", "big in the last", "empty", "full", "nearly full")
        ],
    ),
)
def test_it_is_what_explicit_lists_of_prototypes_give(kind, training, shots, height, width, fixed):
    support = torch.randn(shots, 5, height, width, dtype=torch.float64)
    query = torch.randn(5, 4, 6, dtype=torch.float64)
    mask = masks_of(kind, shots, height, width)
    block = (LocalPrototypes(4, 2) if fixed else LocalPrototypes()).train(training)
    coarse, fine = ((4, 4), (2, 2)) if fixed else (window_of((height, width), 8), window_of((height, width), 16))
    lists = prototypes_by_loop(support, mask, coarse if training else fine, coarse)
    found = block.prototypes(support[None], mask[None])
    assert found.valid[0].sum(1).tolist() == [len(prototypes) for prototypes in lists]
    expected = scores_by_loop(lists, query)
    torch.testing.assert_close(block(support[None], mask[None], query[None])[0], expected, atol=1e-10, rtol=0)


def test_a_small_foreground_has_a_class_prototype_alone_and_a_large_one_windows_besides():
    support = torch.randn(1, 1, 5, 12, 12)
    for training, counts in [(True, (1, 8)), (False, (4, 32))]:
        block = LocalPrototypes(4, 2).train(training)
        for kind, windows_of_foreground in [("small", 0), ("exact", counts[0])]:
            mask = torch.zeros(1, 1, 12, 12)
            mask[..., 4:8, 4 : 8 if kind == "exact" else 7] = 1
            valid = block.prototypes(support, mask).valid[0]
            assert valid[1, :-1].sum() == windows_of_foreground and valid[1, -1]
            assert not valid[0, -1] and (kind != "exact" or valid[0].sum() == counts[1])


@pytest.mark.parametrize("training, most", [(True, 64), (False, 256)])
@pytest.mark.parametrize("side", [16, 32, 64])
def test_a_map_of_any_size_has_as_many_windows_as_the_papers(training, most, side):
    block = LocalPrototypes().train(training)
    found = block.prototypes(torch.randn(1, 1, 8, side, side), torch.ones(1, 1, side, side))
    assert found.vectors.shape == (1, 2, most + 1, 8)
    assert found.valid.sum(2).tolist() == [[0, most + 1]]


def test_on_the_papers_map_windows_of_fixed_size_are_the_same():
    support, mask, query = torch.randn(1, 1, 8, 32, 32), torch.zeros(1, 1, 32, 32), torch.randn(1, 8, 32, 32)
    mask[..., 6:21, 3:25] = 1
    for training in (True, False):
        ours, fixed = (
            block.train(training)(support, mask, query) for block in (LocalPrototypes(), LocalPrototypes(4, 2))
        )
        assert torch.equal(ours, fixed)


def test_an_organ_of_a_few_positions_has_local_prototypes_on_a_small_map():
    """An organ of 5×5 of 16×16 positions; windows of 4×4 positions hold none of it alone."""
    support, mask = torch.randn(1, 1, 8, 16, 16), torch.zeros(1, 1, 16, 16)
    mask[..., 5:10, 5:10] = 1
    for training, count in ((True, 4), (False, 25)):
        assert LocalPrototypes().train(training).prototypes(support, mask).valid[0, 1, :-1].sum() == count
        assert LocalPrototypes(4, 2).train(training).prototypes(support, mask).valid[0, 1, :-1].sum() == 0


@pytest.mark.parametrize("block", [LocalPrototypes(), ClassPrototypes()], ids=["local", "class"])
class TestBoth:
    def test_no_score_is_larger_than_alpha(self, block):
        support, query = torch.randn(3, 2, 4, 12, 12), 1e3 * torch.randn(3, 4, 12, 12)
        query[0] = support[0, 0]
        query[1, :, 0] = 0
        scores = block(support, torch.rand(3, 2, 12, 12).round(), query)
        assert scores.shape == (3, 2, 12, 12) and scores.abs().max() <= 20 * (1 + 1e-6)

    @pytest.mark.parametrize("value, absent", [(0, 1), (1, 0)])
    def test_a_class_without_a_position_never_wins(self, block, value, absent):
        support, query = torch.randn(1, 2, 4, 8, 8), torch.randn(1, 4, 8, 8)
        scores = block(support, torch.full((1, 2, 8, 8), float(value)), query)
        assert (scores[:, absent] == -20).all()
        assert (scores[:, 1 - absent] > -20).all()

    def test_the_order_of_the_shots_changes_nothing(self, block):
        support, mask = torch.randn(2, 3, 4, 9, 8).double(), torch.rand(2, 3, 9, 8).double()
        mask[:, :, :4, :4] = 1
        query, order = torch.randn(2, 4, 9, 8).double(), [2, 0, 1]
        torch.testing.assert_close(block(support[:, order], mask[:, order], query), block(support, mask, query))

    def test_a_shot_that_does_not_exist_is_not_there(self, block):
        support, mask = torch.randn(2, 3, 4, 8, 8).double(), torch.rand(2, 3, 8, 8).double()
        mask[:, :, :4, :4] = 1
        query, exists = torch.randn(2, 4, 8, 8).double(), torch.tensor([[True, False, True]] * 2)
        ours, theirs = block(support, mask, query, exists), block(support[:, [0, 2]], mask[:, [0, 2]], query)
        torch.testing.assert_close(ours, theirs)
        assert (block(support, mask, query, ~exists | exists) != ours).any()
        assert (block(support, mask, query, torch.zeros(2, 3, dtype=torch.bool)) == -20).all()

    def test_samples_know_nothing_of_each_other(self, block):
        support, mask, query = torch.randn(3, 2, 4, 8, 8), torch.rand(3, 2, 8, 8).round(), torch.randn(3, 4, 8, 8)
        mask[1], mask[2, :, :4] = 0, 1
        each = [block(support[i : i + 1], mask[i : i + 1], query[i : i + 1]) for i in range(3)]
        torch.testing.assert_close(block(support, mask, query), torch.cat(each))

    def test_ideal_features_find_the_support_again(self, block):
        y, x = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
        mask = ((y - 13) ** 2 + (x - 17) ** 2 < 81)[None]
        features = torch.stack((~mask[0], mask[0])).float()[None]
        scores = block(features[:, None], mask[:, None].float(), features)
        found = scores[:, 1] > scores[:, 0]
        assert 2 * (found & mask).sum() / (found.sum() + mask.sum()) >= 0.95

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_large_features_survive_autocast(self, block, dtype):
        support, query = (1e3 * torch.randn(2, 1, 8, 8, 8)).to(dtype), (1e3 * torch.randn(2, 8, 8, 8)).to(dtype)
        mask = torch.zeros(2, 1, 8, 8)
        mask[0, :, :4] = 1
        with torch.autocast("cpu", dtype=dtype):
            scores = block(support, mask, query)
        assert scores.dtype == torch.float32 and torch.isfinite(scores).all()
        torch.testing.assert_close(scores, block(support.float(), mask, query.float()))

    @pytest.mark.parametrize("kind", one_fast_in(2, ["big", "small", "empty", "full"]))
    def test_gradients(self, block, kind):
        support = torch.randn(1, 2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
        query = torch.randn(1, 3, 2, 3, dtype=torch.float64, requires_grad=True)
        mask = masks_of(kind, 2, 6, 5)[None]
        assert torch.autograd.gradcheck(lambda s, q: block(s, mask, q), (support, query))

    @pytest.mark.slow
    def test_compiles_without_a_graph_break_whatever_the_masks(self, block):
        torch._dynamo.reset()
        compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
        support, query = torch.randn(1, 2, 4, 8, 8), torch.randn(1, 4, 8, 8)
        for value in (0.0, 0.5, 1.0):
            mask = torch.full((1, 2, 8, 8), value)
            with torch._dynamo.config.patch(error_on_recompile=value > 0):
                torch.testing.assert_close(compiled(support, mask, query), block(support, mask, query))


def test_class_prototypes_are_the_means_of_both_masks():
    support, mask = torch.randn(2, 4, 5, 3).double(), torch.rand(2, 5, 3).double()
    vectors = ClassPrototypes().prototypes(support[None], mask[None]).vectors[0, :, 0]
    expected = torch.stack([class_prototype(support, m) for m in (1 - mask, mask)])
    torch.testing.assert_close(vectors, expected)
    query = torch.randn(4, 2, 2).double()
    scores = ClassPrototypes()(support[None], mask[None], query[None])[0]
    expected_scores = [[[20 * cosine(p, query[:, y, x]) for x in range(2)] for y in range(2)] for p in expected]
    torch.testing.assert_close(scores, torch.tensor(expected_scores, dtype=torch.float64))
