"""Shapley values: how much of a result each player brings, averaged over all orders in which the players may come.

Shapley, A value for n-person games, Contributions to the Theory of Games II, 1953. Here a player is a channel or a
stream, and the worth of a set of players is what is measured on a prediction from these alone.
"""

from math import factorial

import numpy as np

MOST_PLAYERS = 6
"""2⁶ = 64 predictions of a case; more players are not asked for."""


def subsets(n_players: int) -> list[tuple[bool, ...]]:
    """Return which players are in each set, in the order of `shapley_values`: set k has player i if bit i of k is 1."""
    return [tuple(bool(number >> player & 1) for player in range(n_players)) for number in range(2**n_players)]


def shapley_values(worth: np.ndarray) -> np.ndarray:
    """Return each player's exact share of `worth[-1] - worth[0]`.

    Args:
        worth: `(2ⁿ, ...)`, what each set of players reaches, in the order of `subsets`; NaN where undefined.

    Returns:
        `(n, ...)`, in the unit of the worth: for every player the mean, over all orders of the n players, of what is
        gained as the player joins those before it. Their sum is the worth of all minus the worth of none.

    Raises:
        ValueError: for a number of sets that is no power of two.
    """
    worth = np.asarray(worth, dtype=np.float64)
    n = len(worth).bit_length() - 1
    if len(worth) != 2**n:
        raise ValueError(f"{len(worth)} sets are not all sets of some players")
    numbers = np.arange(2**n)
    sizes = np.array([int(number).bit_count() for number in numbers])
    # of a set without the player, by its size: how many of the n! orders begin with just this set and then the player
    weights = np.array([factorial(size) * factorial(n - 1 - size) for size in range(n)]) / factorial(n)
    values = []
    for player in range(n):
        without = numbers[numbers >> player & 1 == 0]
        gains = worth[without | 1 << player] - worth[without]
        values.append(np.tensordot(weights[sizes[without]], gains, 1))
    return np.stack(values) if values else np.zeros((0, *worth.shape[1:]))


def credit(values: np.ndarray) -> np.ndarray:
    """Return each player's part of all that was moved, `(n, ...)` → `(n, ...)`: magnitudes that add up to 1.

    NaN where no player moves anything.
    """
    size = np.abs(values)
    total = size.sum(0, keepdims=True)
    return np.divide(size, total, out=np.full_like(size, np.nan), where=total > 0)
