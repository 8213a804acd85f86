"""Models as zip files: what is unpacked of a stranger's, and that it is what was packed.

Only the files that a prediction reads are unpacked, by names that lead nowhere else. `model_card.json`, which
`nnUNetXModal_export` writes, holds a SHA-256 of each: they tell a damaged file, not a dishonest maker, who can write
the sums anew.
"""

import hashlib
import json
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_temperature import NAME as TEMPERATURE

CARD = "model_card.json"
"""Beside plans.json."""

BESIDE_FOLDS = ("plans.json", "dataset.json", "dataset_fingerprint.json", TEMPERATURE)
"""What travels of a model's folder beside the checkpoints, as far as it is there."""

_LARGEST_JSON = 256 << 20
_BLOCK = 1 << 20  # bytes


def unpack_model(file: Path, place: Path, checkpoint: str) -> Path:
    """Save the models of a zip in a folder: `BESIDE_FOLDS`, card, and the checkpoint of every fold.

    Args:
        place: empty folder.
        checkpoint: name of the file in a fold's folder.

    Returns:
        `place`.

    Raises:
        XModalError: for what is no zip or damaged, names that lead out of a folder or come twice, links, files that do
            not fit on the disk, and those that are not what the card says.
    """
    try:
        with zipfile.ZipFile(file) as opened:
            wanted = _wanted(opened, file, checkpoint)
            _check_room(wanted, file, place)
            for member in wanted:
                target = place.joinpath(*PurePosixPath(member.filename).parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, open(target, "xb") as unpacked:
                    shutil.copyfileobj(packed, unpacked, _BLOCK)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise XModalError(f"{file} is no whole zip file ({error}): get it anew.") from error
    except RuntimeError as error:  # zipfile's word for a password
        raise XModalError(f"{file} cannot be unpacked ({error}): unpack it, and give the folder.") from error
    for card in sorted(place.rglob(CARD)):
        check_sums(card.parent)
    return place


def read_card(folder: Path) -> dict[str, Any] | None:
    """Return the card of a model folder; None where it has none.

    Raises:
        XModalError: for a card that cannot be read.
    """
    file = folder / CARD
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise XModalError(f"{file} is no readable model card ({error}): get the model anew.") from error
    if not isinstance(content, dict) or not isinstance(content.get("files", {}), dict):
        raise XModalError(f"{file} is no model card: get the model anew.")
    return content


def check_sums(folder: Path) -> None:
    """Check that the files of a model are those that its card was written for.

    Files that the card names and that are not there are no fault here: folds may have been left out.

    Raises:
        XModalError: for a file that has another SHA-256.
    """
    card = read_card(folder) or {}
    for name, expected in card.get("files", {}).items():
        path = PurePosixPath(str(name))
        file = folder.joinpath(*path.parts)
        if path.is_absolute() or ".." in path.parts or not _is_read(path, None) or not file.is_file():
            continue
        if sha256_of(file) != expected:
            raise XModalError(
                f"{file.name} of {folder.name} is not the file that {CARD} was written for (another SHA-256): it was "
                "damaged or exchanged on the way, get the model anew."
            )


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with open(file, "rb") as opened:
        while block := opened.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _wanted(opened: zipfile.ZipFile, file: Path, checkpoint: str) -> list[zipfile.ZipInfo]:
    wanted, seen = [], set()
    for member in opened.infolist():
        name, path = member.filename, PurePosixPath(member.filename)
        leads_away = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name
        if leads_away or stat.S_ISLNK(member.external_attr >> 16):
            raise XModalError(f"{file} holds {name!a}, which leads out of its folder: it is no model to be trusted.")
        if member.is_dir() or not _is_read(path, checkpoint):
            continue
        if str(path).lower() in seen:
            raise XModalError(f"{file} holds {name!a} twice: it is no model to be trusted.")
        seen.add(str(path).lower())
        if path.suffix == ".json" and member.file_size > _LARGEST_JSON:
            raise XModalError(f"{name!a} in {file} holds {member.file_size >> 20} MB, which no such file does.")
        wanted.append(member)
    return wanted


def _is_read(path: PurePosixPath, checkpoint: str | None) -> bool:
    """Whether a prediction reads a file of this name; with None any checkpoint counts."""
    if path.name in (*BESIDE_FOLDS, CARD):
        return True
    in_fold = re.fullmatch(r"fold_(\d+|all)", path.parent.name)
    return bool(in_fold) and (path.name == checkpoint if checkpoint is not None else path.suffix == ".pth")


def _check_room(wanted: list[zipfile.ZipInfo], file: Path, place: Path) -> None:
    needed, free = sum(member.file_size for member in wanted), shutil.disk_usage(place).free
    if needed > free:
        raise XModalError(
            f"{file} unpacks to {needed / 1e9:.2f} GB, and {place.parent} has room for {free / 1e9:.2f} GB: set TMPDIR "
            "to another disk, or unpack it there and give the folder."
        )
