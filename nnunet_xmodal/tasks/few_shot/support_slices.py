"""Choose labelled slices as supports: ALPNet's protocol of three chunks along an organ (ECCV 2020, section 4).

An organ's slices, from its first to its last one, are divided into chunks of equal length; a query is segmented by the
supports of the chunk at its own relative position. A chunk's support is the slice at its middle: with three chunks at
1/6, 1/2 and 5/6 of the organ's slices.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.errors import XModalError

Support = dict[int, list[tuple[str, int]]]
"""Chunk → (case, slice), one per shot."""


def organ_extent(labels: np.ndarray, values: Iterable[int]) -> tuple[int, int] | None:
    """Return the first and last slice of an integer map `(Z, H, W)` that hold any of the values, None if none does."""
    slices = slices_with(labels, values)
    return (int(slices[0]), int(slices[-1])) if len(slices) else None


def slices_with(labels: np.ndarray, values: Iterable[int]) -> np.ndarray:
    """Return the slices of an integer map `(Z, H, W)` that hold any of the values, in ascending order."""
    return np.flatnonzero(np.isin(labels, list(values)).any((1, 2)))


def chunk_of(index: int, first: int, last: int, chunks: int = 3) -> int:
    """Return the chunk in which the middle of a slice lies; that at the end for slices beyond it.

    Raises:
        XModalError: for fewer than one chunk.
    """
    _check(chunks)
    slices = last - first + 1
    return min(max((2 * (index - first) + 1) * chunks // (2 * slices), 0), chunks - 1)


def chunk_slices(first: int, last: int, chunks: int = 3, shots: int = 1) -> list[list[int]]:
    """Return per chunk the slices of its shots, in ascending order; in short organs some are the same.

    Shot s of S in chunk k of K lies at the fraction (k + (2s + 1)/(2S))/K of the organ's slices, so that shots divide
    their chunk evenly.

    Raises:
        XModalError: for fewer than one chunk or shot.
    """
    _check(chunks, shots)
    slices = last - first + 1
    return [
        [first + (2 * (shots * chunk + shot) + 1) * slices // (2 * shots * chunks) for shot in range(shots)]
        for chunk in range(chunks)
    ]


def _check(chunks: int, shots: int = 1) -> None:
    if chunks < 1:
        raise XModalError(f"an organ cannot be divided into {chunks} chunks: take 1 or more.")
    if shots < 1:
        raise XModalError(f"{shots} shots leave a chunk without support: take 1 or more.")


def choose_support(
    dataset: PreprocessedCases,
    cases: Sequence[str],
    labels: Mapping[str, Sequence[int]],
    chunks: int = 3,
    shots: int = 1,
) -> dict[str, Support]:
    """Choose the supports of every label, always the same ones for the same cases.

    Cases with more of the labels come first, those with equally many by their names, so that few annotated cases serve
    all labels. With several shots every shot is from another case, as long as there are as many; then cases give
    further slices of a chunk, the first cases first. A slice in which the organ is interrupted gives way to the nearest
    one of the organ, the lower one of two.

    Args:
        dataset: of nnU-Net, with `load_case`; only the label maps of `cases` are read, one at a time.
        labels: name → values in a label map, as `files/labels.foreground` gives them.

    Returns:
        Label → chunk → (case, slice) per shot; `{}` for a label that no case has.

    Raises:
        XModalError: for fewer than one chunk or shot.
    """
    _check(chunks, shots)
    slices: dict[str, dict[str, np.ndarray]] = {}
    for case in cases:
        segmentation = np.asarray(dataset.load_case(case)[1][0])
        found = {name: slices_with(segmentation, values) for name, values in labels.items()}
        slices[case] = {name: indices for name, indices in found.items() if len(indices)}
    ranked = sorted(slices, key=lambda case: (-len(slices[case]), case))
    return {name: _support([(case, slices[case][name]) for case in ranked if name in slices[case]], chunks, shots)
            for name in labels}  # fmt: skip


def _support(organs: list[tuple[str, np.ndarray]], chunks: int, shots: int) -> Support:
    """Choose the support of one label, from its cases in the order of preference and the slices that hold it."""
    if not organs:
        return {}
    organs = organs[:shots]
    support: Support = {chunk: [] for chunk in range(chunks)}
    for place, (case, slices) in enumerate(organs):
        own_shots = len(range(place, shots, len(organs)))  # dealt in turn
        for chunk, wanted in enumerate(chunk_slices(slices[0], slices[-1], chunks, own_shots)):
            nearest = [int(slices[np.abs(slices - index).argmin()]) for index in wanted]
            support[chunk] += [(case, index) for index in nearest]
    return support
