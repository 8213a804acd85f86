"""From the words of the command line and a recipe to what is prepared with what."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from nnunet_xmodal.datasets.streams import streams_from_command_line, streams_of_dataset
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.orientation import checked_code
from nnunet_xmodal.preparation.label_maps import check_labels, parse_labels, parse_map, values_of
from nnunet_xmodal.preparation.raw_dataset import carried_over, cases_of, raw_dataset_of, streams_by_name
from nnunet_xmodal.preparation.recipe import read_recipe
from nnunet_xmodal.preparation.settings import LABEL, PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase, SourcePatterns, cases_in_csv, cases_in_folder


@dataclass(frozen=True)
class PreparationWords:
    """The flags of `nnUNetXModal_prepare`, as they are written; None where one was not given."""

    input: Path
    output: str
    channels: Sequence[str] | None = None
    recipe: str | None = None
    reference: str | None = None
    label: str | None = None
    label_component: int | None = None
    map: Sequence[str] | None = None
    labels: Sequence[str] | None = None
    streams: Sequence[str] | None = None
    transform: Sequence[str] | None = None
    landmarks: Sequence[str] | None = None
    register: bool = False
    roi: str | None = None
    roi_label: Sequence[int] | None = None
    margin: float = 0.0
    unlabelled: str = "Ts"
    orientation: str | None = None
    processes: int = 1
    overwrite: bool = False


def understood(words: PreparationWords) -> tuple[list[SourceCase], PreparationSettings]:
    """The cases and the settings.

    Raises:
        XModalError: for words that contradict each other or what is found, see `sources` and `label_maps`.
    """
    recipe = read_recipe(words.recipe) if words.recipe else {}
    if words.orientation is not None:
        words = replace(words, orientation=checked_code(words.orientation))
    if words.margin < 0:
        raise XModalError(f"--margin takes millimetres from 0, got {words.margin:g}.")
    if words.margin and not words.roi:
        raise XModalError("--margin lies around what --roi names: give it, too.")
    if words.roi_label and not (words.roi and Path(words.roi).is_dir()):
        raise XModalError("--roi_label says which values of masks are the organ: give their folder as --roi.")
    raw = raw_dataset_of(words.input) if words.orientation and not (words.channels or words.recipe) else None
    if raw is not None:
        return _of_raw_dataset(raw, words)
    if words.input.suffix.lower() == ".csv":
        for flag in ("recipe", "label", "transform", "landmarks"):
            if getattr(words, flag):
                raise XModalError(f"--{flag} looks for files in folders, and a CSV names them: leave it out.")
        cases, channels = cases_in_csv(words.input, [word.partition("=")[0] for word in words.channels or ()])
    else:
        patterns = _patterns(words, recipe)
        cases, channels = cases_in_folder(words.input, patterns), list(patterns.channels)
    if not cases:
        raise XModalError(f"{words.input} holds no case.")
    return cases, _settings(words, recipe, channels, any(case.label for case in cases))


def _of_raw_dataset(raw: Path, words: PreparationWords) -> tuple[list[SourceCase], PreparationSettings]:
    defaults = PreparationWords(words.input, words.output)
    for field in fields(words):
        kept = field.name in ("input", "output", "orientation", "processes", "overwrite")
        if not kept and getattr(words, field.name) != getattr(defaults, field.name):
            raise XModalError(
                f"{raw} is a raw dataset, which --orientation turns as it is: leave --{field.name} out, or name its "
                "scans with --channels."
            )
    cases, names, described = cases_of(raw)
    settings = PreparationSettings(
        channels=tuple(names),
        reference=names[0],
        labels=described["labels"],
        streams=streams_by_name(described, names),
        unlabelled="Tr",
        orientation=words.orientation,
        described=carried_over(described),
    )
    return cases, settings


def _patterns(words: PreparationWords, recipe: dict) -> SourcePatterns:
    channels = _pairs(words.channels, "--channels", "T2W=*t2w*") or recipe.get("channels", {})
    if not channels:
        raise XModalError(f"{words.input} is a folder: name its channels, as in --channels T2W=*t2w* ADC=*adc*.")
    transforms = _pairs(words.transform, "--transform", "TRUS=*.tfm") or recipe.get("transforms", {})
    landmarks = _pairs(words.landmarks, "--landmarks", "MR=*mr.fcsv") or recipe.get("landmarks", {})
    for flag, given in (("--transform", transforms), ("--landmarks", landmarks)):
        for name in given:
            if name not in channels:
                raise XModalError(f"{flag} names the unknown channel {name}: known are {', '.join(channels)}.")
    return SourcePatterns(channels, words.label or recipe.get("label"), transforms, landmarks)


def _pairs(words: Sequence[str] | None, flag: str, example: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words or ():
        name, _, pattern = word.partition("=")
        if not name or not pattern:
            raise XModalError(f"{flag} takes a channel and a pattern, as in {example}, got {word}.")
        if name in pairs:
            raise XModalError(f"{flag} names {name} twice: separate alternatives by | in one pattern.")
        pairs[name] = pattern
    return pairs


def _settings(words: PreparationWords, recipe: dict, channels: Sequence[str], labelled: bool) -> PreparationSettings:
    reference = words.reference or recipe.get("reference") or channels[0]
    if reference not in (*channels, LABEL):
        raise XModalError(f"--reference names the unknown channel {reference}: known are {', '.join(channels)}, label.")
    labels = parse_labels(words.labels) if words.labels else recipe.get("labels")
    if labelled and not labels:
        raise XModalError("the label's values have no names: give them, as in --labels lesion=1.")
    if labels:
        check_labels(labels)
    if words.roi and not Path(words.roi).is_dir() and values_of(words.roi, labels or {}) is None:
        raise XModalError(
            f"--roi {words.roi} is no folder of masks, and no label: known are {', '.join(labels or ['none'])}."
        )
    component = recipe.get("label_component") if words.label_component is None else words.label_component
    return PreparationSettings(
        channels=tuple(channels),
        reference=reference,
        labels=labels,
        label_map=parse_map(words.map if words.map else [f"{a}:{b}" for a, b in recipe.get("map", {}).items()]),
        label_component=component,
        streams=_streams(words, recipe, list(channels)),
        register=words.register or bool(recipe.get("register")),
        roi=str(Path(words.roi).absolute()) if words.roi and Path(words.roi).is_dir() else words.roi,
        roi_values=tuple(words.roi_label or ()),
        margin_mm=words.margin,
        unlabelled=words.unlabelled,
        orientation=words.orientation,
    )


def _streams(words: PreparationWords, recipe: dict, channels: list[str]) -> list[list[str]] | None:
    if words.streams:
        streams = streams_from_command_line(words.streams, channels)
    else:
        of_recipe = recipe.get("streams") if not words.channels else None  # streams of other channels
        streams = streams_of_dataset({"xmodal": {"streams": of_recipe}}, channels) if of_recipe else None
    return streams and [[channels[index] for index in stream] for stream in streams]
