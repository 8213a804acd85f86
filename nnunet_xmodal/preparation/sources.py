"""Which files make up which case: found by patterns, or listed in a CSV."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.folders import check_input_folder
from nnunet_xmodal.files.tables import read_columns
from nnunet_xmodal.preparation.bids_names import SUB_SES, check_one_kind, narrowed, space_faults, suffix_of
from nnunet_xmodal.preparation.patterns import names_case, paths_by_case

_COLUMNS = ("case", "channel", "file")


@dataclass(frozen=True)
class SourceCase:
    """One case as it was found: its files, or what is wrong with them.

    Attributes:
        name: as nnU-Net's files will be called.
        images: file or DICOM folder of each channel that was found.
        label: file, or folder of PNG slices.
        transforms: by channel, fixed → moving point.
        landmarks: by channel, the same points in each.
        faults: sentences about what was found, or not.
        split: `Tr` or `Ts` where the case already is in one; None goes by whether it has a label.
    """

    name: str
    images: Mapping[str, Path]
    label: Path | None = None
    transforms: Mapping[str, Path] = field(default_factory=dict)
    landmarks: Mapping[str, Path] = field(default_factory=dict)
    faults: Sequence[str] = ()
    split: Literal["Tr", "Ts"] | None = None

    def inputs(self) -> list[Path]:
        """Return everything that is read of the case, in a fixed order."""
        groups = (self.images, {"": self.label} if self.label else {}, self.transforms, self.landmarks)
        return [group[key] for group in groups for key in sorted(group)]


@dataclass(frozen=True)
class SourcePatterns:
    """Patterns as in `patterns.paths_by_case`; channels in the order of their numbers."""

    channels: Mapping[str, str]
    label: str | None = None
    transforms: Mapping[str, str] = field(default_factory=dict)
    landmarks: Mapping[str, str] = field(default_factory=dict)

    def of(self, kind: str, name: str) -> str:
        """Return the pattern of a channel's "image", "transform" or "landmarks", or of the "label"."""
        by_kind = {"image": self.channels, "transform": self.transforms, "landmarks": self.landmarks}
        return self.label or "" if kind == "label" else by_kind[kind][name]


def cases_in_folder(folder: Path, patterns: SourcePatterns, allow_missing: bool = False) -> list[SourceCase]:
    """Find the cases of a folder, by name. Where no channel's pattern names the case, every folder in it is one.

    A case with a missing channel, unless `allow_missing`, or with two files for one, has a fault; a case of which only
    the label is there is none.

    Raises:
        XModalError: for a folder that does not exist, a pattern without a match in any case, two cases with one name,
            and masks of several kinds under one pattern of BIDS, see `bids_names.check_one_kind`.
    """
    check_input_folder(folder)
    found = {("image", name): paths_by_case(folder, pattern) for name, pattern in patterns.channels.items()}
    names = {case for paths in found.values() for case in paths}
    if not any(names_case(pattern) for pattern in patterns.channels.values()):
        names |= {inner.name for inner in folder.iterdir() if inner.is_dir() and inner.name[0] != "."}
    if patterns.label:
        found["label", ""] = paths_by_case(folder, patterns.label)
    for kind, of_channels in (("transform", patterns.transforms), ("landmarks", patterns.landmarks)):
        for name, pattern in of_channels.items():
            found[kind, name] = paths_by_case(folder, pattern)
    for (kind, name), paths in found.items():
        if not names & set(paths):
            what = "the label" if kind == "label" else f"{name} ({kind})"
            raise XModalError(
                f"no file in {folder} matches {patterns.of(kind, name)}, the pattern of {what}: correct it."
            )
    for alternative in (patterns.label or "").split("|"):
        if SUB_SES in alternative:
            shown = paths_by_case(folder, alternative)
            check_one_kind({case: shown[case][0] for case in shown if case in names and len(shown[case]) == 1})
    return _unique([_collected(case, found, patterns, allow_missing) for case in sorted(names)])


def _collected(
    case: str, found: Mapping[tuple[str, str], dict[str, list[Path]]], wanted: SourcePatterns, allow_missing: bool
) -> SourceCase:
    groups: dict[str, dict[str, Path]] = {"image": {}, "label": {}, "transform": {}, "landmarks": {}}
    faults = []
    for (kind, name), by_case in found.items():
        paths = by_case.get(case, [])
        if len(paths) > 1:
            what = name or "the label"
            of_bids = SUB_SES in wanted.of(kind, name) and paths[0].name != paths[1].name
            hint = f", for example to {narrowed(paths[0], case)}" if of_bids else ""
            faults.append(f"{_listed_paths(paths)} match the pattern of {what}: narrow it{hint}.")
        elif paths:
            groups[kind][name] = paths[0]
    label, pattern = groups["label"].get(""), wanted.label or ""
    if label and not faults and SUB_SES in pattern:
        channels = [suffix_of(Path(of_channel)) for of_channel in wanted.channels.values()]
        faults += space_faults(label, groups["image"].values(), channels, pattern)
    faults += _used_twice(groups["image"], groups["label"])
    if not faults and not allow_missing:
        faults = _missing(groups["image"], wanted.channels)
    return SourceCase(
        case, groups["image"], groups["label"].get(""), groups["transform"], groups["landmarks"], tuple(faults)
    )


def _listed_paths(paths: Sequence[Path]) -> str:
    """Return up to five paths as words: `a and b both`, `a, b and c all`."""
    shown = [*map(str, paths[:5]), *([f"{len(paths) - 5} more"] if len(paths) > 5 else [])]
    return f"{', '.join(shown[:-1])} and {shown[-1]} {'both' if len(shown) == 2 else 'all'}"


def cases_in_csv(
    file: Path, channels: Sequence[str] = (), allow_missing: bool = False
) -> tuple[list[SourceCase], list[str]]:
    """Read the cases of a table with the columns case, channel and file, and perhaps label, transform and landmarks.

    Args:
        file: its paths are relative to its own folder, or absolute.
        channels: that are wanted, in order; those of the table as they first appear if empty.
        allow_missing: whether a case that lacks one has no fault.

    Returns:
        Cases by name, and the channels. The label of a case stands in one of its rows, or the same one in several; a
        row may hold nothing but a label.

    Raises:
        XModalError: for a file that is no such table, a row without a case, a file without a channel, no channel at
            all, one that is in no row or wanted twice, and two cases with one name.
    """
    rows = read_columns(file, _COLUMNS)
    listed = list(dict.fromkeys(row["channel"] for _, row in rows if row["channel"]))
    for name in channels:
        if name not in listed:
            raise XModalError(f"{file} has no row of the channel {name}: it has {', '.join(listed)}.")
        if channels.count(name) > 1:
            raise XModalError(f"--channels names {name} twice: leave one out.")
    channels = list(channels) or listed
    by_case: dict[str, list[dict]] = {}
    for number, row in rows:
        if not row["case"]:
            raise XModalError(f"line {number} of {file} names no case.")
        if row["file"] and not row["channel"]:
            raise XModalError(f"line {number} of {file} has the file {row['file']} and names no channel.")
        by_case.setdefault(row["case"], []).append(row)
    if not channels:
        raise XModalError(f"{file} names no channel: it needs a row for every image.")
    listed_cases = [_listed(case, by_case[case], file.parent, channels, allow_missing) for case in sorted(by_case)]
    return _unique(listed_cases), channels


def _listed(case: str, rows: list[dict], folder: Path, channels: Sequence[str], allow_missing: bool) -> SourceCase:
    groups: dict[str, dict[str, Path]] = {"file": {}, "label": {}, "transform": {}, "landmarks": {}}
    faults = []
    for row in rows:
        for kind, of_kind in groups.items():
            path, key = row.get(kind), "" if kind == "label" else row["channel"]
            if not path or (kind != "label" and key not in channels):
                continue
            path = folder / path
            if of_kind.setdefault(key, path) != path:
                what = "labels" if kind == "label" else f"files of {key}"
                faults.append(f"the rows of {case} name two {what}, {of_kind[key].name} and {path.name}: keep one.")
            elif not path.exists():
                faults.append(f"{path} does not exist.")
    faults = list(dict.fromkeys(faults)) + _used_twice(groups["file"], groups["label"])
    faults = faults or ([] if allow_missing else _missing(groups["file"], channels))
    return SourceCase(
        case, groups["file"], groups["label"].get(""), groups["transform"], groups["landmarks"], tuple(faults)
    )


def _used_twice(images: Mapping[str, Path], label: Mapping[str, Path]) -> list[str]:
    """A file is one channel, or the label: what is drawn may not be what is read."""
    used: dict[Path, str] = {}
    faults = []
    for what, path in [*images.items(), *(("the label", path) for path in label.values())]:
        if path in used:
            faults.append(f"{path} would be both {used[path]} and {what}: narrow their patterns, or correct the table.")
        used[path] = what
    return faults


def _missing(images: Mapping[str, Path], channels: Iterable[str]) -> list[str]:
    missing = [name for name in channels if name not in images]
    return [f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing."] if missing else []


def with_fault_if_no_stream(case: SourceCase, channels: Sequence[str], streams: Sequence[Sequence[str]]) -> SourceCase:
    """Return a case that lacks channels with a fault, unless all channels of one of the streams are there."""
    if case.faults or any(set(stream) <= set(case.images) for stream in streams):
        return case
    sentence = _missing(case.images, channels)[0].removesuffix(".")
    return replace(case, faults=(f"{sentence}, and no stream is whole.",))


def _unique(cases: list[SourceCase]) -> list[SourceCase]:
    """Rename cases so that a file can have their names."""
    renamed: dict[str, SourceCase] = {}
    for case in cases:
        name = re.sub(r"[^\w.-]+", "_", case.name).lstrip(".")  # files whose name begins with it are hidden
        if not name:
            raise XModalError(f"{case.name!r} is no name of a case that files could have: rename it.")
        if name in renamed:
            raise XModalError(f"{case.name} and {renamed[name].name} would both be called {name}: rename one.")
        renamed[name] = case
    return [SourceCase(name, c.images, c.label, c.transforms, c.landmarks, c.faults) for name, c in renamed.items()]
