"""Which channels a case of an incomplete dataset lacks: on disk, of streams, and in words."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.datasets.streams import describe_streams
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json

MISSING_FILE = "missing.json"
"""In the folder of a raw and of a preprocessed dataset: case → names of the channels that it lacks, where it does."""

MISSING = "missing_channels"
"""In the properties of a preprocessed case that lacks channels: their numbers. Their voxels are 0."""

COMPLETE = "complete"
"""The pattern of cases that lack nothing."""

Missing = Mapping[str, Sequence[int]]
"""Case → numbers of the channels that it lacks, of the cases that lack any."""


def missing_of(datasets: Iterable[PreprocessedCases]) -> dict[str, list[int]]:
    """Return what the cases of preprocessed datasets lack, by what was noted when they were preprocessed."""
    noted = {
        case: list(dataset.load_case(case)[3].get(MISSING, ())) for dataset in datasets for case in dataset.identifiers
    }
    return {case: channels for case, channels in noted.items() if channels}


def present_streams(missing: Sequence[int], streams: Sequence[Sequence[int]]) -> list[bool]:
    """Return per stream whether all its channels are there: one that lacks any of them is absent."""
    return [not set(channels) & set(missing) for channels in streams]


def check_some_stream(missing: Missing, streams: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Check that every case has a whole stream.

    Raises:
        XModalError: for the first case that has none.
    """
    for case, channels in missing.items():
        if not any(present_streams(channels, streams)):
            raise XModalError(
                f"case {case} lacks {named(channels, names)}, so that none of the streams "
                f"{describe_streams([list(stream) for stream in streams], names)} is whole: leave it out, or plan with "
                "other --streams."
            )


def named(channels: Sequence[int], names: Sequence[str]) -> str:
    """Return channels in words, "T1c and FLAIR"."""
    words = [names[channel] for channel in channels]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def pattern_of(missing: Sequence[str]) -> str:
    """Return what a case has, by the names of what it lacks: "complete", "no T1c+FLAIR"."""
    return f"no {'+'.join(missing)}" if missing else COMPLETE


def patterns_of(cases: Iterable[str], missing: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return case → `pattern_of`."""
    return {case: pattern_of(missing.get(case, ())) for case in cases}


def write_missing(missing: Mapping[str, Sequence[str]], folder: Path) -> None:
    """Write the file of a dataset, or delete an earlier one where every case is complete."""
    if missing:
        write_json({case: list(missing[case]) for case in sorted(missing)}, folder / MISSING_FILE)
    else:
        (folder / MISSING_FILE).unlink(missing_ok=True)


def read_missing(folder: Path) -> dict[str, list[str]]:
    """Read the file of a dataset; without one every case is complete.

    Raises:
        XModalError: for a file that holds something else.
    """
    file = folder / MISSING_FILE
    if not file.is_file():
        return {}
    content = read_json(file)
    is_one = isinstance(content, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names) for names in content.values()
    )
    if not is_one:
        raise XModalError(f"{file} does not name the channels that each case lacks: plan and preprocess again.")
    return content
