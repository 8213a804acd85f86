"""What a segment is called in DICOM: codes and colours of labels.

`dataset.json` may hold `"xmodal": {"codes": {"lesion": {"type": ["52988006", "SCT", "Lesion"], "category": […],
"region": […], "colour": [213, 94, 0]}}}`: code, scheme and meaning. What it does not say is looked up by the label's
name among the SNOMED CT terms that pydicom lists, and is "Tissue" where there is none.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dicom_libraries import load_dicom_libraries
from nnunet_xmodal.files.labels import foreground

Triple = tuple[str, str, str]
"""Code value, scheme designator, meaning."""

TISSUE: Triple = ("85756007", "SCT", "Tissue")
STRUCTURE: Triple = ("123037004", "SCT", "Anatomical Structure")
ABNORMAL: Triple = ("49755003", "SCT", "Morphologically Abnormal Structure")

_ABNORMAL_TYPES = 7159
"""DICOM's context group of lesions, by which pydicom files terms."""

_SAME = {"tumour": "neoplasm", "tumor": "neoplasm", "oedema": "edema", "cancer": "neoplasm", "kidneys": "kidney"}
_COLOURS = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)  # Okabe and Ito's, which the colour-blind tell apart


@dataclass(frozen=True)
class Segment:
    """A label as a segment.

    Attributes:
        values: of the label in a label map; several for a region.
        colour: red, green, blue, 0 to 255.
        region: where in the body, None where that is not said.
    """

    name: str
    values: tuple[int, ...]
    category: Triple
    type: Triple
    colour: tuple[int, int, int]
    region: Triple | None = None


def segments_of(dataset_json: Mapping) -> list[Segment]:
    """Return a segment for each label or region, in the order of dataset.json.

    Raises:
        XModalError: for codes of an unknown label, or in another form than above, and without pydicom and highdicom.
    """
    entry = dataset_json.get("xmodal", {})
    codes = entry.get("codes", {}) if isinstance(entry, Mapping) else {}
    labels = foreground(dataset_json)
    for name in codes if isinstance(codes, Mapping) else [codes]:
        if not isinstance(codes, Mapping) or name not in labels or not isinstance(codes[name], Mapping):
            raise XModalError(
                f'"codes" in dataset.json has {name!r}, and wants a label ({", ".join(labels)}) with an entry such as '
                '{"type": ["52988006", "SCT", "Lesion"]}.'
            )
    return [_segment(name, values, codes.get(name, {}), number) for number, (name, values) in enumerate(labels.items())]


def _segment(name: str, values: tuple[int, ...], said: Mapping[str, Any], number: int) -> Segment:
    unknown = set(said) - {"type", "category", "region", "colour"}
    if unknown:
        raise XModalError(
            f'"codes" of {name} in dataset.json has {min(unknown)!r}: known are type, category, region, colour.'
        )
    category, kind = _looked_up(name)
    colour = said.get("colour", _COLOURS[number % len(_COLOURS)])
    if len(colour) != 3 or not all(isinstance(part, int) and 0 <= part <= 255 for part in colour):
        raise XModalError(f'"colour" of {name} in dataset.json is {colour!r}: write red, green, blue, 0 to 255.')
    return Segment(
        name,
        values,
        _triple(said.get("category", category), name),
        _triple(said.get("type", kind), name),
        (colour[0], colour[1], colour[2]),
        _triple(said["region"], name) if "region" in said else None,
    )


def _triple(code: Any, name: str) -> Triple:
    if not isinstance(code, list | tuple) or len(code) != 3 or not all(isinstance(part, str) and part for part in code):
        raise XModalError(f'a code of {name} in dataset.json is {code!r}: write ["52988006", "SCT", "Lesion"].')
    return code[0], code[1], code[2]


def _looked_up(name: str) -> tuple[Triple, Triple]:
    """Return category and type of a label by its name."""
    codes = load_dicom_libraries("labels have codes in a DICOM segmentation")[1].sr.codedict.codes
    words = [word for word in re.split(r"[\W_]+", name.lower()) if word]
    words = [_SAME.get(word, word) for word in words]
    terms = {term.lower(): term for term in codes.SCT.dir()}
    for wanted in ("".join(words), words[-1] if words else ""):
        if wanted in terms:
            code = getattr(codes.SCT, terms[wanted])
            found = (code.value, code.scheme_designator, code.meaning)
            abnormal = {other.value for other in getattr(codes, f"cid{_ABNORMAL_TYPES}").concepts.values()}
            return (ABNORMAL if code.value in abnormal else STRUCTURE), found
    return TISSUE, TISSUE
