"""A model's card: what it reads and finds, what it was trained on, how well it did, and what it is for."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nnunet_xmodal import __version__
from nnunet_xmodal.catalogue.entry import Entry
from nnunet_xmodal.catalogue.trainers import TRAINERS
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.inherited import with_inherited
from nnunet_xmodal.files.model_zip import CARD, read_card
from nnunet_xmodal.sharing.request import LICENCE, USE, ExportRequest
from nnunet_xmodal.trainers.base.names import without_length

UNSAID = "not stated"
_CALIBRATED = "temperature {:.4g}, which nnUNetXModal_predict --temperature divides the logits by"
_LARGEST = 4 << 20  # bytes of a card that is shown


def make_card(
    request: ExportRequest,
    plans: Mapping,
    dataset_json: Mapping,
    scores: Sequence[Mapping],
    source: str,
    streams: str | None,
    temperature: float | None,
) -> dict[str, Any]:
    """Write a card, but for the sums of the files.

    Args:
        request: with every name of its model.
        source: of the scores, e.g. "nnUNetXModal_compare".
        streams: "T2W | ADC", see `streams_read_by`; None where nothing is known.
        temperature: with which the model is calibrated; None for a model that is not.
    """
    model = request.model
    configuration = with_inherited(plans["configurations"], model.configuration)
    entry = _entry_of(model.trainer)
    return {
        "model": f"{model.dataset}, {model.trainer}, {model.configuration}",
        "date": date.today().isoformat(),
        LICENCE: request.licence or UNSAID,
        USE: request.intended_use or UNSAID,
        "contact": request.contact or UNSAID,
        "task": entry.task if entry else "segmentation",
        "data": {
            "dataset": model.dataset,
            "about": request.data or dataset_json.get("description") or UNSAID,
            "channels": dataset_json.get("channel_names", dataset_json.get("modality")),
            "labels": dataset_json.get("labels"),
            "training cases": dataset_json.get("numTraining"),
        },
        "training": {
            "trainer": model.trainer,
            "what it does": entry.what if entry else "",
            "paper": entry.paper if entry else "",
            "streams": streams,
            "plans": model.plans,
            "configuration": model.configuration,
            "folds": list(model.folds),
            "checkpoint": model.checkpoint,
            "patch": configuration.get("patch_size"),
            "spacing in mm": configuration.get("spacing"),
            "calibration": _CALIBRATED.format(temperature) if temperature is not None else "",
        },
        "scores": {"of": source, "rows": list(scores)},
        "software": {"nnunet-xmodal": __version__, **{name: version(name) for name in ("nnunetv2", "torch")}},
    }


def shown_card(place: str | Path | None) -> str:
    """Return the card of a model as Markdown; nothing of a zip is unpacked.

    Raises:
        XModalError: for a place without a model, and a model without a card.
    """
    if place is None:
        raise XModalError("--card shows the card of a model: give -m with its folder or zip.")
    cards = _cards_of(Path(place))
    if not cards:
        raise XModalError(f"{place} has no {CARD}: it was not made by nnUNetXModal_export; ask its maker.")
    return "\n\n".join(as_markdown(card) for card in cards)


def as_markdown(card: Mapping[str, Any]) -> str:
    """Return a card for a reader; control characters, which a terminal would obey, are left out."""
    lines = [f"# {card.get('model', 'A model')}", ""]
    lines += [f"- **{name}**: {_words(card.get(name))}" for name in (USE, LICENCE, "contact", "task", "date")]
    for part in ("data", "training", "software"):
        content = card.get(part)
        if isinstance(content, Mapping):
            lines += ["", f"## {part.capitalize()}", ""]
            lines += [f"- {name}: {_words(value)}" for name, value in content.items() if value not in (None, "", [])]
    lines += _score_lines(card.get("scores"))
    files = card.get("files")
    if isinstance(files, Mapping):
        lines += ["", "## Files (SHA-256)", ""] + [f"- `{name}`: `{digest}`" for name, digest in files.items()]
    return "\n".join(_printable(str(line)) for line in lines)


def _score_lines(scores: Any) -> list[str]:
    from nnunet_xmodal.sharing.scores import shown_score  # numpy: not for whoever only asks for a card without scores

    if not isinstance(scores, Mapping) or not scores.get("rows"):
        return ["", "## Scores", "", f"- {UNSAID}"]
    lines = [
        "",
        f"## Scores ({scores.get('of', UNSAID)})",
        "",
        "| label | metric | cases | mean ± sd |",
        "|---|---|--:|--:|",
    ]
    try:
        for row in scores["rows"]:
            lines.append(f"| {row['label']} | {row['metric']} | {row['n']} | {shown_score(row)} |")
    except (KeyError, TypeError, ValueError) as error:
        raise XModalError(f"the scores in {CARD} are damaged ({error!r}): get the model anew.") from error
    return lines


def _cards_of(place: Path) -> list[dict[str, Any]]:
    if place.is_file():
        return _cards_in_zip(place)
    if not place.is_dir():
        raise XModalError(f"-m {place} does not exist: give the folder of a trained model, or a zip.")
    folders = [file.parent for depth in (CARD, f"*/{CARD}", f"*/*/{CARD}") for file in sorted(place.glob(depth))]
    return [card for folder in folders if (card := read_card(folder)) is not None]


def _cards_in_zip(file: Path) -> list[dict[str, Any]]:
    try:
        with zipfile.ZipFile(file) as opened:
            members = [info for info in opened.infolist() if info.filename.rpartition("/")[2] == CARD]
            if any(info.file_size > _LARGEST for info in members):
                raise XModalError(f"{CARD} in {file} is larger than any card: it is no model to be trusted.")
            cards = [json.loads(opened.read(info).decode("utf-8")) for info in members]
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError, RecursionError) as error:
        if isinstance(error, XModalError):
            raise
        raise XModalError(f"{file} is no zip with a readable {CARD} ({error}): get it anew.") from error
    return [card for card in cards if isinstance(card, dict)]


def _entry_of(trainer: str) -> Entry | None:
    return next((entry for entry in TRAINERS if without_length(trainer) in entry.names), None)


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(f"({_words(inner)})" if isinstance(inner, list) else str(inner) for inner in value)
    return UNSAID if value in (None, "") else str(value)


def _printable(line: str) -> str:
    return "".join(character for character in line if character.isprintable())
