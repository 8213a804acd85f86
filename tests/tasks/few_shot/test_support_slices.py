"""Where supports lie: at the middles of chunks, in cases that are always the same ones."""

from fractions import Fraction

import numpy as np
import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot.support_slices import (
    choose_support,
    chunk_of,
    chunk_slices,
    organ_extent,
    slices_with,
)


@pytest.mark.parametrize(
    "first, last, expected",
    [
        (0, 5, [1, 3, 5]),  # six slices: 1/6, 1/2 and 5/6 of them are 1, 3 and 5
        (10, 27, [13, 19, 25]),
        (4, 6, [4, 5, 6]),
        (0, 8, [1, 4, 7]),
        (7, 7, [7, 7, 7]),
        (3, 4, [3, 4, 4]),
    ],
)
def test_three_chunks_at_a_sixth_a_half_and_five_sixths(first, last, expected):
    assert chunk_slices(first, last) == [[index] for index in expected]


@pytest.mark.parametrize("chunks, shots", [(1, 1), (3, 1), (3, 2), (5, 3), (2, 7)])
@pytest.mark.parametrize("slices", [1, 2, 3, 7, 30, 31, 100])
def test_the_slice_of_a_shot_holds_its_fraction_of_the_organ(chunks, shots, slices):
    found = chunk_slices(11, 11 + slices - 1, chunks, shots)
    assert len(found) == chunks and all(len(chunk) == shots for chunk in found)
    for chunk in range(chunks):
        for shot in range(shots):
            place = Fraction(2 * (shots * chunk + shot) + 1, 2 * shots * chunks) * slices
            assert 0 <= place - (found[chunk][shot] - 11) < 1


@pytest.mark.parametrize("chunks", [1, 2, 3, 5])
@pytest.mark.parametrize("slices", [1, 2, 3, 4, 5, 6, 7, 23, 60])
def test_chunks_of_slices_ascend_are_of_equal_length_and_hold_their_supports(chunks, slices):
    found = [chunk_of(index, 20, 20 + slices - 1, chunks) for index in range(20, 20 + slices)]
    assert found == sorted(found) and set(found) <= set(range(chunks))
    assert found == [chunks - 1 - chunk for chunk in found[::-1]] or chunks % 2 == 0 or slices % 2 == 0
    if slices >= chunks:
        sizes = [found.count(chunk) for chunk in range(chunks)]
        assert max(sizes) - min(sizes) <= 1
        supports = chunk_slices(20, 20 + slices - 1, chunks)
        assert [chunk_of(index, 20, 20 + slices - 1, chunks) for (index,) in supports] == list(range(chunks))
    assert chunk_of(0, 20, 20 + slices - 1, chunks) == 0
    assert chunk_of(500, 20, 20 + slices - 1, chunks) == chunks - 1


def volume(organs: dict[int, range | list], depth=20) -> np.ndarray:
    """`(1, Z, 6, 6)` int16 with one voxel per label and slice, −1 in a corner as nnU-Net marks the outside."""
    labels = np.zeros((1, depth, 6, 6), np.int16)
    labels[:, :, 0, 0] = -1
    for value, slices in organs.items():
        labels[0, list(slices), value, 3] = value
    return labels


def test_the_extent_of_an_organ():
    labels = volume({1: range(4, 9), 2: [2, 12], 3: [7]})[0]
    assert organ_extent(labels, [1]) == (4, 8)
    assert organ_extent(labels, [2]) == (2, 12) and slices_with(labels, [2]).tolist() == [2, 12]
    assert organ_extent(labels, (1, 2)) == (2, 12)
    assert organ_extent(labels, [3]) == (7, 7)
    assert organ_extent(labels, [4]) is None


class Cases:
    """As much of nnU-Net's dataset as is asked for; an image that is looked at fails."""

    def __init__(self, **organs):
        self.labels = {case: volume(values) for case, values in organs.items()}

    def load_case(self, case):
        return None, self.labels[case], None, {}


LABELS = {"liver": (1,), "spleen": (2,), "kidneys": (3, 4)}


def test_the_case_with_most_labels_comes_first_then_names_decide():
    dataset = Cases(
        a={1: range(0, 6)},
        c={1: range(6, 12), 2: range(3, 6), 4: range(5, 8)},
        b={1: range(12, 18), 2: range(0, 9), 3: range(2, 4), 4: range(4, 8)},
        d={},
    )
    expected = {
        "liver": {0: [("b", 13)], 1: [("b", 15)], 2: [("b", 17)]},
        "spleen": {0: [("b", 1)], 1: [("b", 4)], 2: [("b", 7)]},
        "kidneys": {0: [("b", 3)], 1: [("b", 5)], 2: [("b", 7)]},
    }
    for order in ("abcd", "dcba"):
        assert choose_support(dataset, list(order), LABELS) == expected
    assert choose_support(dataset, "ad", LABELS) == {
        "liver": {0: [("a", 1)], 1: [("a", 3)], 2: [("a", 5)]},
        "spleen": {},
        "kidneys": {},
    }


def test_shots_come_from_different_cases_while_there_are_any():
    dataset = Cases(a={1: range(0, 6)}, b={1: range(6, 12)}, c={1: range(12, 18)})
    only_liver = {"liver": (1,)}
    two = choose_support(dataset, "cba", only_liver, shots=2)["liver"]
    assert two == {0: [("a", 1), ("b", 7)], 1: [("a", 3), ("b", 9)], 2: [("a", 5), ("b", 11)]}
    four = choose_support(dataset, "ab", only_liver, chunks=1, shots=3)["liver"]
    assert four == {0: [("a", 1), ("a", 4), ("b", 9)]}


def test_a_gap_in_an_organ_gives_way_to_its_nearest_slice():
    dataset = Cases(a={1: [0, 1, 2, 8, 9, 10]})
    assert choose_support(dataset, ["a"], {"liver": (1,)})["liver"] == {0: [("a", 1)], 1: [("a", 2)], 2: [("a", 9)]}


def test_the_supports_hold_their_organ():
    rng = np.random.default_rng(0)
    dataset = Cases(**{name: {1: np.flatnonzero(rng.random(20) < 0.4)} for name in "abcdef"})
    for shots in (1, 3, 8):
        support = choose_support(dataset, "abcdef", {"liver": (1,)}, shots=shots)["liver"]
        assert set(support) == {0, 1, 2}
        for chosen in support.values():
            assert len(chosen) == shots
            assert all((dataset.labels[case][0, index] == 1).any() for case, index in chosen)


@pytest.mark.parametrize("arguments, message", [({"chunks": 0}, "into 0 chunks"), ({"shots": 0}, "0 shots leave")])
def test_no_chunk_or_shot_is_a_sentence(arguments, message):
    with pytest.raises(XModalError, match=message):
        choose_support(Cases(a={1: range(3)}), "a", {"liver": (1,)}, **arguments)
