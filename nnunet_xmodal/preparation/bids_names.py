"""Names of BIDS: `sub-01_ses-1_acq-hi_space-orig_label-lesion_mask.nii.gz`, entities and a suffix.

A pattern with `{sub_ses}` in the place of the case finds files whatever further entities they have. What a label shows
and which space it lies in stand in these: what is passed over in the pattern is looked at here.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from nnunet_xmodal.errors import XModalError

SUB_SES = "{sub_ses}"
"""Stands for a subject, or a session of one, as `{case}` does for any case."""

SUB_SES_EXPRESSION = "sub-[0-9a-zA-Z+]+(?:_ses-[0-9a-zA-Z+]+|(?!_ses-))(?=_|$)"
"""A session's file is never its subject's."""

_OF_THE_SCANNER = ("", "orig", "scanner")
"""Spaces in which a file lies where its scan does; so it does in that of a scan of the case, `space-T1w`."""


def entity_of(file: Path, key: str) -> str:
    """Return the value of an entity, "lesion" of `label-lesion`; "" for a name without."""
    found = re.search(rf"(?:^|_){key}-([0-9a-zA-Z+]+)(?=[_.])", file.name)
    return found[1] if found else ""


def suffix_of(file: Path) -> str:
    """Return what a file is, "T1w" of `sub-01_T1w.nii.gz`."""
    return file.name.partition(".")[0].rpartition("_")[2]


def narrowed(file: Path, case: str) -> str:
    """Return the end of a pattern that finds files named as this one, of every case."""
    return file.name.replace(case, SUB_SES, 1)


def space_faults(label: Path, images: Iterable[Path], channels: Iterable[str], pattern: str) -> list[str]:
    """Return a sentence about a label in another space than its images; none where it lies with them.

    Args:
        channels: suffixes of all scans that a case may have; the space of one of them, `space-T1w`, is the scanner's.
        pattern: of the label; one that says `space-` knows better.
    """
    images = list(images)
    native = {*_OF_THE_SCANNER, *channels, *map(suffix_of, images)}

    def space(file: Path) -> str:
        named = entity_of(file, "space")
        return "" if named in native else named

    own, theirs = space(label), [(space(image), image) for image in images]
    if "space-" in pattern or not theirs or own in {name for name, _ in theirs}:
        return []
    other, image = theirs[0]
    return [
        f"{label} lies in {_called(own)} and {image.name} in {_called(other)}: give masks on the scans with --label, "
        "or name the space- of both files in the patterns."
    ]


def check_one_kind(labels: Mapping[str, Path]) -> None:
    """Check that what one pattern finds shows the same in all cases, as the entities label and desc say.

    Args:
        labels: of each case.

    Raises:
        XModalError: for masks of several things, which lists one of each.
    """
    kinds: dict[str, tuple[str, Path]] = {}
    for case, file in labels.items():
        kinds.setdefault(entity_of(file, "label") or entity_of(file, "desc"), (case, file))
    if len(kinds) > 1:
        shown = [f"{file} ({kind or 'neither label- nor desc-'})" for kind, (_, file) in sorted(kinds.items())]
        case, file = kinds[max(kinds)]
        raise XModalError(
            f"the label's pattern finds masks of {len(kinds)} kinds, {', '.join(shown)}: say which with --label, for "
            f"example 'derivatives/**/{narrowed(file, case)}', with | between several."
        )


def _called(space: str) -> str:
    return f"the space {space}" if space else "that of the scanner"
