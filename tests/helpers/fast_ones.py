"""Which cases of a parametrised test belong to the fast tests."""

from collections.abc import Iterable, Sequence

import pytest


def one_fast_in(number: int, values: Iterable) -> list:
    """Mark all but every `number`-th case as slow: for what repeats one statement over many of a kind.

    Args:
        values: of `pytest.mark.parametrize`; tuples where it takes several names.
    """
    return [
        _param(value) if index % number == 0 else _param(value, pytest.mark.slow) for index, value in enumerate(values)
    ]


def turn_about(rows: Iterable, columns: Sequence[tuple]) -> list:
    """Pair every row with every column; one pair of each row is fast, with the columns in turns.

    Args:
        rows: names of trainers or networks.
        columns: what each of them is tried with.
    """
    return [
        _param((row, *column)) if index % len(columns) == number else _param((row, *column), pytest.mark.slow)
        for index, row in enumerate(rows)
        for number, column in enumerate(columns)
    ]


def _param(value: object, *marks: pytest.MarkDecorator):
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=marks)
