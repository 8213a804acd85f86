"""Shapley values: the axioms that define them, and the mean over all orders."""

from itertools import permutations

import numpy as np
import pytest

from nnunet_xmodal.evaluation.shapley import credit, shapley_values, subsets


def naive(worth: np.ndarray, n: int) -> np.ndarray:
    """Let the players come in every order, and note what each adds."""
    values = np.zeros(n)
    orders = list(permutations(range(n)))
    for order in orders:
        there = 0
        for player in order:
            values[player] += worth[there | 1 << player] - worth[there]
            there |= 1 << player
    return values / len(orders)


@pytest.mark.parametrize("n", range(1, 7))
def test_mean_over_all_orders_and_nothing_is_lost(n):
    worth = np.random.default_rng(n).normal(size=2**n)
    values = shapley_values(worth)
    np.testing.assert_allclose(values, naive(worth, n), atol=1e-12)
    assert values.sum() == pytest.approx(worth[-1] - worth[0])


def test_who_changes_nothing_gets_nothing_and_equal_players_get_the_same():
    worth = np.array([len([player for player, there in enumerate(given) if there and player < 2]) ** 2
                      for given in subsets(3)], float)  # fmt: skip
    np.testing.assert_allclose(shapley_values(worth), [2, 2, 0], atol=1e-12)
    np.testing.assert_allclose(credit(shapley_values(worth)), [0.5, 0.5, 0], atol=1e-12)


def test_sets_are_numbered_by_their_players_and_further_axes_are_kept():
    assert subsets(2) == [(False, False), (True, False), (False, True), (True, True)]
    worth = np.random.default_rng(0).normal(size=(8, 2, 3))
    np.testing.assert_allclose(shapley_values(worth)[:, 1, 2], shapley_values(worth[:, 1, 2]))
    with pytest.raises(ValueError, match="3 sets"):
        shapley_values(np.zeros(3))


def test_no_credit_where_nothing_moves():
    assert np.isnan(credit(np.zeros(2))).all()
    np.testing.assert_allclose(credit(np.array([-3.0, 1.0])), [0.75, 0.25])
