import math

import pytest
import torch

from nnunet_xmodal.losses.few_shot import EpisodeLoss


def cross_entropy_by_loop(scores, masks, weights):
    """Weighted mean over the pixels of a batch, `(N, 2, H, W)` and `(N, H, W)`."""
    total = size = 0.0
    for (background, foreground), mask in zip(scores.tolist(), masks.tolist()):
        for b_row, f_row, row in zip(background, foreground, mask):
            for b, f, y in zip(b_row, f_row, row):
                p = math.exp(f if y else b) / (math.exp(b) + math.exp(f))
                total -= weights[y] * math.log(p)
                size += weights[y]
    return total / size


def episode(batch=2, shots=3, dtype=torch.float64):
    return (
        torch.randn(batch, 2, 4, 5, dtype=dtype),
        torch.randn(batch * shots, 2, 4, 5, dtype=dtype),
        torch.randint(0, 2, (batch, 4, 5), dtype=torch.uint8),
        torch.randint(0, 2, (batch, shots, 4, 5), dtype=torch.uint8),
    )


@pytest.mark.parametrize("weights, strength", [((0.05, 1.0), 1.0), ((1.0, 1.0), 0.3), ((0.2, 3.0), 0.0)])
def test_both_terms_agree_with_a_loop(weights, strength):
    scores, alignment, query_mask, support_mask = batch = episode()
    terms = EpisodeLoss(weights, strength, weights)(*batch)
    segmentation = cross_entropy_by_loop(scores, query_mask, weights)
    aligned = cross_entropy_by_loop(alignment, support_mask.view(-1, 4, 5), weights)
    assert terms.segmentation.item() == pytest.approx(segmentation)
    assert terms.alignment.item() == pytest.approx(aligned)
    assert terms.total.item() == pytest.approx(segmentation + strength * aligned)


def test_the_alignment_has_no_weights_unless_it_is_told():
    scores, alignment, query_mask, support_mask = batch = episode()
    terms, expected = EpisodeLoss()(*batch), cross_entropy_by_loop(alignment, support_mask.view(-1, 4, 5), (1, 1))
    assert terms.alignment.item() == pytest.approx(expected)
    assert terms.segmentation.item() == pytest.approx(cross_entropy_by_loop(scores, query_mask, (0.05, 1)))


def test_equal_weights_are_equations_6_to_8_as_printed():
    scores, alignment, query_mask, support_mask = batch = episode(batch=1, shots=1)
    probabilities = [x.softmax(1)[0] for x in (scores, alignment)]
    masks = [query_mask[0].double(), support_mask[0, 0].double()]
    printed = [-((1 - y) * p[0].log() + y * p[1].log()).sum() / 20 for p, y in zip(probabilities, masks)]
    torch.testing.assert_close(EpisodeLoss((1.0, 1.0))(*batch).total, sum(printed))


def test_half_precision_scores_of_20_give_a_float32_loss():
    scores, alignment, query_mask, support_mask = episode(dtype=torch.float16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = EpisodeLoss()(20 * scores.sign(), 20 * alignment.sign(), query_mask, support_mask)
    assert all(term.dtype == torch.float32 and torch.isfinite(term) for term in terms)


def test_scores_without_a_preference_cost_log_2_and_get_no_gradient_if_they_have_none():
    scores, alignment, query_mask, support_mask = episode()
    scores.requires_grad_()
    terms = EpisodeLoss()(scores, torch.zeros_like(alignment), query_mask, support_mask)
    assert terms.alignment.item() == pytest.approx(math.log(2))
    terms.total.backward()
    assert torch.isfinite(scores.grad).all() and scores.grad.abs().sum() > 0
