"""Labels of a dataset.json: whether nnU-Net can learn them, and write each of them as what it is.

With regions nnU-Net predicts every region on its own and writes, one region after the other, the value that
`regions_class_order` gives it; a later region replaces what an earlier one has written. A label map says what was
predicted only if the value that is left belongs to the same regions as the value that was meant.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from nnunet_xmodal.errors import XModalError

Labels: TypeAlias = Mapping[str, "int | list[int] | tuple[int, ...]"]
"""As in dataset.json: a name → a value, or the values of a region."""

BACKGROUND, IGNORE = "background", "ignore"


def check_form(labels: object, where: str) -> None:
    """Check that labels are names with whole numbers from 0, or lists of them.

    Args:
        where: what the sentence is about, e.g. the path of a dataset.json.

    Raises:
        XModalError: for other forms, among them the one of nnU-Net's first version.
    """
    if isinstance(labels, list) and labels and all(isinstance(name, str) for name in labels):
        numbered = {name: number for number, name in enumerate(labels)}
        raise XModalError(f'"labels" of {where} are a list: write them with their values, {_shown(numbered)}.')
    if not isinstance(labels, Mapping) or not labels:
        raise XModalError(f'"labels" of {where} are {_shown(labels)}: write {{"background": 0, "lesion": 1}}.')
    if all(isinstance(value, str) and not _is_number(value) for value in labels.values()):
        swapped = {name: int(value) if _is_number(value) else value for value, name in labels.items()}
        raise XModalError(
            f'"labels" of {where} have names and values the other way round, as in nnU-Net\'s first version: write '
            f"{_shown(swapped)}."
        )
    for name, value in labels.items():
        _check_value(name, value, where)
    if isinstance(labels.get(IGNORE), list | tuple):
        raise XModalError(f"the label ignore of {where} is {_shown(labels['ignore'])}, a region: give it one value.")


def _check_value(name: str, value: object, where: str) -> None:
    values = value if isinstance(value, list | tuple) else [value]
    if not values:
        raise XModalError(f"the region {name} of {where} has no values: name them, or leave the region out.")
    for number in values:
        if isinstance(number, str) and _is_number(number):
            raise XModalError(
                f'the value of the label {name} of {where} is the text "{number}": write the number {int(number)} '
                "without quotes."
            )
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise XModalError(
                f"the label {name} of {where} has the value {_shown(number)}: values are whole numbers from 0."
            )
    if len(set(values)) < len(values):
        raise XModalError(f"the region {name} of {where} names a value twice, {_shown(value)}: once is enough.")


def check_labels(labels: Labels, order: object, where: str) -> None:
    """Check that nnU-Net can learn labels, and that what it writes says which of them it has found.

    Args:
        labels: see `check_form`.
        order: `regions_class_order`; None where there is none.
        where: what the sentence is about.

    Raises:
        XModalError: see `check_form` and `check_values`; for regions without an order, an order of another length, one
            that is no list of values, and one by which a region is written with the value of another.
    """
    check_form(labels, where)
    check_values(labels, where)
    if has_regions(labels):
        _check_order(regions_of(labels), order, where)


def check_values(labels: Labels, where: str) -> None:
    """Check background, gaps, the ignore label and values of two labels.

    Raises:
        XModalError: without a background of value 0 or without any other label, for values that are not 0, 1, 2, …
            without a gap, an ignore label that is not the last of them, and two labels of one value.
    """
    if BACKGROUND not in labels:
        named = next((name for name, value in labels.items() if value == 0), None)
        way_out = (
            f'rename "{named}", which has the value 0, to "background"' if named else 'add "background": 0 to "labels"'
        )
        raise XModalError(f"{where} has no label background, which nnU-Net needs: {way_out}.")
    if labels[BACKGROUND] != 0:
        raise XModalError(f"the label background of {where} is {_shown(labels[BACKGROUND])}, and nnU-Net wants 0.")
    values = sorted({value for name in labels for value in values_of(labels, name)})
    if not any(set(values_of(labels, name)) != {0} for name in labels if name != IGNORE):
        raise XModalError(f'{where} names no label but background: name what is to be found, for example "lesion": 1.')
    if values != list(range(len(values))):
        missing = next(value for value in range(len(values)) if value not in values)
        raise XModalError(
            f"the labels of {where} have the values {', '.join(map(str, values))}, and nnU-Net wants them without a "
            f"gap: write {missing} instead of {values[-1]}, in the label maps as well (nnUNetXModal_prepare --map "
            f"{values[-1]}:{missing})."
        )
    if IGNORE in labels and (labels[IGNORE] != values[-1] or _has(labels, labels[IGNORE])):
        last = max((value for name in labels if name != IGNORE for value in values_of(labels, name)), default=0) + 1
        raise XModalError(
            f"the label ignore of {where} has the value {labels[IGNORE]}, and nnU-Net wants it last: give it {last}, "
            "in the label maps as well."
        )
    if not has_regions(labels):
        seen: dict[int, str] = {}
        for name in labels:
            value = values_of(labels, name)[0]
            if value in seen:
                raise XModalError(
                    f"the labels {seen[value]} and {name} of {where} both have the value {value}: give each its own, "
                    "or write a region as a list of values."
                )
            seen[value] = name


def _has(labels: Labels, value: object) -> bool:
    return any(value in values_of(labels, name) for name in labels if name != IGNORE)


def values_of(labels: Labels, name: str) -> tuple[int, ...]:
    """Return the values of a label or region."""
    value = labels[name]
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def has_regions(labels: Labels) -> bool:
    """Return whether nnU-Net takes the labels for regions: any stands for several values."""
    return any(len(values_of(labels, name)) > 1 for name in labels)


def regions_of(labels: Labels) -> dict[str, tuple[int, ...]]:
    """Return name → values of what nnU-Net predicts one by one where there are regions, in its order."""
    return {name: values_of(labels, name) for name in labels if name != IGNORE and set(values_of(labels, name)) != {0}}


def _check_order(regions: Mapping[str, tuple[int, ...]], order: object, where: str) -> None:
    names = ", ".join(regions)
    advice = _advice(regions)
    if order is None:
        raise XModalError(f'{where} has regions ({names}) but no "regions_class_order": {advice}.')
    if not isinstance(order, list | tuple) or any(isinstance(v, bool) or not isinstance(v, int) for v in order):
        raise XModalError(f'"regions_class_order" of {where} is {_shown(order)}, no list of whole numbers: {advice}.')
    if len(order) != len(regions):
        raise XModalError(
            f'"regions_class_order" of {where} has {len(order)} values ({_shown(order)}) for {len(regions)} regions '
            f"({names}): {advice}."
        )
    wrong = wrongly_written(regions, order)
    if wrong is not None:
        name, value, written = wrong
        lost = "would be written as" if value in regions[name] else "would get voxels of"
        said = f"({value}) {lost} {written}" if value in regions[name] else f"{lost} {value}, written as {written}"
        raise XModalError(
            f'the region {name} {said} by the "regions_class_order" {_shown(order)} of {where}, which is '
            f"{_belongs(written, regions)}: {advice}."
        )


def wrongly_written(regions: Mapping[str, tuple[int, ...]], order: Sequence[int]) -> tuple[str, int, int] | None:
    """Find a region that a label map cannot tell, because a value is left in its place that says something else.

    Returns:
        The smallest region that loses a value (or gains one, where none loses), the value, and what is written in its
        place; None where no region is confused.
    """
    found = []
    for value in sorted({value for values in regions.values() for value in values}):
        written = next(mark for values, mark in reversed(list(zip(regions.values(), order))) if value in values)
        for name, values in regions.items():
            if (value in values) != (written in values):
                found.append((value not in values, len(values), name, value, written))
    if not found:
        return None
    _, _, name, value, written = min(found, key=lambda entry: entry[:2])
    return name, value, written


def suggested_order(regions: Mapping[str, tuple[int, ...]]) -> list[int] | None:
    """Return for each region a value that no later one has; None where one has none of its own."""
    values = own_values(regions).values()
    order = [value for value in values if value is not None]
    return order if len(order) == len(values) else None


def own_values(regions: Mapping[str, tuple[int, ...]]) -> dict[str, int | None]:
    """Return region → its smallest value that no later one has, None where it has none of its own."""
    names = list(regions)
    later = {name: {value for other in names[n + 1 :] for value in regions[other]} for n, name in enumerate(names)}
    return {name: min(set(regions[name]) - later[name], default=None) for name in names}


def _advice(regions: Mapping[str, tuple[int, ...]]) -> str:
    order = suggested_order(regions)
    if order is not None and wrongly_written(regions, order) is None:
        return f'write "regions_class_order": {_shown(order)}'
    larger_first = dict(sorted(regions.items(), key=lambda region: -len(region[1])))
    order = suggested_order(larger_first)
    if order is not None and wrongly_written(larger_first, order) is None:
        return f'name the regions as {", ".join(larger_first)} and write "regions_class_order": {_shown(order)}'
    return "every region needs a value that no region behind it has, so larger ones come first"


def _belongs(value: int, regions: Mapping[str, tuple[int, ...]]) -> str:
    names = [name for name, values in regions.items() if value in values]
    return f"of {' and '.join(names)}" if names else "in no region"


def _is_number(text: str) -> bool:
    return text.strip().lstrip("+-").isdecimal()


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:200]}…"
