"""File patterns that know which case a file belongs to: `*/{case}_t2w.mha`."""

import re
from collections.abc import Iterator
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.preparation.bids_names import SUB_SES, SUB_SES_EXPRESSION

CASE = "{case}"
_CASES = {CASE: ".+", SUB_SES: SUB_SES_EXPRESSION}
"""Words that stand for the case, and what they match."""


def names_case(pattern: str) -> bool:
    """Return whether every alternative of a pattern says which part of a path is the case."""
    return all(_has_case(alternative) for alternative in pattern.split("|"))


def _has_case(pattern: str) -> bool:
    return any(word in pattern for word in _CASES)


def paths_by_case(folder: Path, pattern: str) -> dict[str, list[Path]]:
    """Map cases to the files and folders that match.

    Args:
        folder: that relative patterns begin in.
        pattern: of path segments with the shell's `*`, `?` and `[…]`; `**` stands for any number of folders, `{case}`
            for the case, `{sub_ses}` for one of BIDS (see `bids_names`), and `|` separates alternatives. What has
            neither is looked for in a folder per case: `*t2*` is `{case}/*t2*`. Hidden files never match.

    Returns:
        Sorted; of a folder and the files in it that match both only the folder counts.

    Raises:
        XModalError: for an empty pattern, and for an absolute one without `{case}` or `{sub_ses}`.
    """
    found: dict[str, set[Path]] = {}
    for alternative in pattern.split("|"):
        for case, path in _matches(folder, alternative):
            found.setdefault(case, set()).add(path)
    return {case: sorted(p for p in paths if not paths & set(p.parents)) for case, paths in sorted(found.items())}


def _matches(folder: Path, pattern: str) -> Iterator[tuple[str, Path]]:
    start = Path(pattern).anchor
    if not pattern.strip("/ "):
        raise XModalError("a pattern for files is empty: write for example T2W=*t2w.nii.gz.")
    if not _has_case(pattern):
        if start:
            raise XModalError(f"the pattern {pattern} does not say where the case is: write {{case}} in its place.")
        pattern = f"{CASE}/{pattern}"
    segments = [segment for segment in pattern[len(start) :].split("/") if segment and segment != "."]
    for path, case in _walk(Path(start) if start else folder, segments, None):
        if case:
            yield case, path


def _walk(place: Path, segments: list[str], case: str | None) -> Iterator[tuple[Path, str | None]]:
    if not segments:
        yield place, case
        return
    first, *rest = segments
    if first == "**":
        yield from _walk(place, rest, case)
        for inner in _inside(place):
            if inner.is_dir() and not inner.is_symlink():
                yield from _walk(inner, segments, case)
        return
    if not re.search(r"[*?[]", first) and (not _has_case(first) or case):
        inner = place / first.replace(CASE, case or "").replace(SUB_SES, case or "")
        if inner.exists():
            yield from _walk(inner, rest, case)
        return
    expression = _expression(first, case)
    for inner in _inside(place):
        match = expression.fullmatch(inner.name)
        if match and (not rest or inner.is_dir()):
            yield from _walk(inner, rest, case or match.groupdict().get("case"))


def _inside(place: Path) -> list[Path]:
    try:
        return sorted(inner for inner in place.iterdir() if inner.name[0] != ".") if place.is_dir() else []
    except PermissionError:  # lost+found, and a case's folder, which then lacks its files and says so
        return []


def _expression(segment: str, case: str | None) -> re.Pattern:
    group = re.escape(case) if case else ""
    parts = []
    for part in re.split(r"(\{case\}|\{sub_ses\}|\*|\?|\[[^]]+\])", segment):
        if part in _CASES:
            parts.append(group or f"(?P<case>{_CASES[part]})")
            if part == SUB_SES:  # nor where the folder has said the subject
                parts.append("(?!_ses-)")
            group = group or "(?P=case)"  # a second time
        elif part.startswith("[") and part.endswith("]"):
            parts.append("[^" + part[2:] if part.startswith("[!") else part)
        else:
            parts.append({"*": ".*", "?": "."}.get(part) or re.escape(part))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise XModalError(
            f"the part {segment} of a pattern is none ({error}): correct what is in its brackets."
        ) from error
