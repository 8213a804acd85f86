"""From a request and its recipe to the cases that are prepared, and the settings that hold for all of them."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from nnunet_xmodal.datasets.streams import Streams, streams_from_command_line, streams_of_dataset
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.orientation import checked_code
from nnunet_xmodal.preparation.label_maps import Labels, check_labels, parse_labels, parse_map, values_of
from nnunet_xmodal.preparation.raw_dataset import carried_over, cases_of, raw_dataset_of, streams_by_name
from nnunet_xmodal.preparation.recipe import read_recipe
from nnunet_xmodal.preparation.request import PreparationRequest
from nnunet_xmodal.preparation.settings import LABEL, PreparationSettings
from nnunet_xmodal.preparation.sources import (
    SourceCase,
    SourcePatterns,
    cases_in_csv,
    cases_in_folder,
    with_fault_if_no_stream,
)

_FOR_RAW_DATASETS = ("input", "output", "orientation", "processes", "overwrite")
_FOR_FOLDERS = ("recipe", "label", "transform", "landmarks")


def cases_and_settings(request: PreparationRequest) -> tuple[list[SourceCase], PreparationSettings]:
    """Return the cases that the request finds, and what they are prepared with.

    Raises:
        XModalError: for a request that contradicts itself or what is found, see `sources` and `label_maps`.
    """
    recipe = {} if request.recipe is None else read_recipe(request.recipe)
    orientation = None if request.orientation is None else checked_code(request.orientation)
    if orientation is not None and not (request.channels or request.recipe):
        raw = raw_dataset_of(request.input)
        if raw is not None:
            return _of_raw_dataset(raw, request, orientation)
    cases, channels = _cases_and_channels(request, recipe)
    if not cases:
        raise XModalError(f"{request.input} holds no case: check the folder or the table, and the patterns.")
    settings = _settings(request, recipe, channels, orientation, any(case.label for case in cases))
    if request.allow_missing:
        streams = settings.streams or [[name] for name in channels]
        cases = [with_fault_if_no_stream(case, channels, streams) for case in cases]
    return cases, settings


def _of_raw_dataset(
    raw: Path, request: PreparationRequest, orientation: str
) -> tuple[list[SourceCase], PreparationSettings]:
    """Return the cases of a raw dataset, and the settings that turn them and change nothing else."""
    plain = PreparationRequest(request.input, request.output)
    for name in (field.name for field in fields(request)):
        if name not in _FOR_RAW_DATASETS and getattr(request, name) != getattr(plain, name):
            raise XModalError(
                f"{raw} is a raw dataset, which --orientation turns as it is: leave --{name} out, or name its scans "
                "with --channels."
            )
    cases, names, described = cases_of(raw)
    settings = PreparationSettings(
        channels=tuple(names),
        reference=names[0],
        labels=described["labels"],
        streams=streams_by_name(described, names),
        unlabelled="Tr",
        orientation=orientation,
        described=carried_over(described),
    )
    return cases, settings


def _cases_and_channels(request: PreparationRequest, recipe: dict) -> tuple[list[SourceCase], list[str]]:
    if request.input.suffix.lower() not in (".csv", ".tsv"):
        patterns = _patterns(request, recipe)
        return cases_in_folder(request.input, patterns, request.allow_missing), list(patterns.channels)
    for name in _FOR_FOLDERS:
        if getattr(request, name) is not None:
            raise XModalError(f"--{name} looks for files in folders, and a table names them: leave it out.")
    names = [word.partition("=")[0] for word in request.channels or ()]
    return cases_in_csv(request.input, names, request.allow_missing)


def _patterns(request: PreparationRequest, recipe: dict) -> SourcePatterns:
    channels = _patterns_by_channel(_chosen(request, recipe), "--channels", "T2W=*t2w*") or recipe.get("channels", {})
    if not channels:
        raise XModalError(f"{request.input} is a folder: name its channels, as in --channels T2W=*t2w* ADC=*adc*.")
    transforms = _patterns_by_channel(request.transform, "--transform", "TRUS=*.tfm") or recipe.get("transforms", {})
    landmarks = _patterns_by_channel(request.landmarks, "--landmarks", "MR=*mr.fcsv") or recipe.get("landmarks", {})
    for flag, given in (("--transform", transforms), ("--landmarks", landmarks)):
        for name in given:
            if name not in channels:
                raise XModalError(f"{flag} names the unknown channel {name}: known are {', '.join(channels)}.")
    return SourcePatterns(channels, request.label or recipe.get("label"), transforms, landmarks)


def _chosen(request: PreparationRequest, recipe: dict) -> list[str]:
    """Return the words of --channels, with a recipe's pattern where a word is but a name of its channels.

    Raises:
        XModalError: for a recipe of which channels have to be chosen, without a choice.
    """
    of_recipe = recipe.get("channels", {})
    if recipe.get("choose") and not request.channels:
        raise XModalError(
            f"--recipe {request.recipe} knows {', '.join(of_recipe)}: take those that there are, as in --channels "
            f"{' '.join(list(of_recipe)[:2])}."
        )
    return [f"{word}={of_recipe[word]}" if word in of_recipe else word for word in request.channels or ()]


def _patterns_by_channel(words: Sequence[str] | None, flag: str, example: str) -> dict[str, str]:
    patterns: dict[str, str] = {}
    for word in words or ():
        name, _, pattern = word.partition("=")
        if not name or not pattern:
            raise XModalError(f"{flag} takes a channel and a pattern, as in {example}, got {word}.")
        if name in patterns:
            raise XModalError(f"{flag} names {name} twice: separate alternatives by | in one pattern.")
        patterns[name] = pattern
    return patterns


def _settings(
    request: PreparationRequest, recipe: dict, channels: Sequence[str], orientation: str | None, labelled: bool
) -> PreparationSettings:
    labels = _labels(request, recipe, labelled)
    label_map = request.map or [f"{old}:{new}" for old, new in recipe.get("map", {}).items()]
    return PreparationSettings(
        channels=tuple(channels),
        reference=_reference(request, recipe, channels),
        labels=labels,
        label_map=parse_map(label_map),
        label_component=recipe.get("label_component") if request.label_component is None else request.label_component,
        streams=_streams(request, recipe, list(channels)),
        register=request.register or bool(recipe.get("register")),
        roi=_region(request.roi, labels),
        roi_values=tuple(request.roi_label or ()),
        margin_mm=request.margin or 0.0,
        unlabelled="Tr" if request.unlabelled == "Tr" else "Ts",
        orientation=orientation,
        allow_missing=request.allow_missing,
    )


def _reference(request: PreparationRequest, recipe: dict, channels: Sequence[str]) -> str:
    reference = request.reference or recipe.get("reference") or channels[0]
    if reference not in (*channels, LABEL):
        raise XModalError(f"--reference names the unknown channel {reference}: known are {', '.join(channels)}, label.")
    return reference


def _labels(request: PreparationRequest, recipe: dict, labelled: bool) -> Labels | None:
    labels = parse_labels(request.labels) if request.labels else recipe.get("labels")
    if labelled and not labels:
        raise XModalError("the label's values have no names: give them, as in --labels lesion=1.")
    if labels:
        check_labels(labels)
    return labels


def _region(roi: str | None, labels: Labels | None) -> str | None:
    """Return the absolute path of a folder of masks, or the label that images are cropped to."""
    if roi is None:
        return None
    if Path(roi).is_dir():
        return str(Path(roi).absolute())
    if values_of(roi, labels or {}) is None:
        raise XModalError(
            f"--roi {roi} is no folder of masks, and no label: known are {', '.join(labels or ['none'])}."
        )
    return roi


def _streams(request: PreparationRequest, recipe: dict, channels: list[str]) -> list[list[str]] | None:
    """Return the names of the channels of each stream; None where neither request nor recipe says."""
    streams: Streams | None = None
    if request.streams:
        streams = streams_from_command_line(request.streams, channels)
    elif recipe.get("streams") and not request.channels:  # those of a recipe are streams of its own channels
        streams = streams_of_dataset({"xmodal": {"streams": recipe["streams"]}}, channels)
    return None if streams is None else [[channels[index] for index in stream] for stream in streams]
