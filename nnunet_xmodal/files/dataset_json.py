"""dataset.json, read and checked in one way wherever it is read: what nnU-Net would misunderstand is said."""

import codecs
import json
import re
from collections.abc import Mapping
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_labels import check_form, check_labels

_PLAIN_ENDING = re.compile(r"(\.\w+)+")

_MARKS = (
    (codecs.BOM_UTF8, "UTF-8 with a byte order mark"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_dataset_json(file: Path) -> dict:
    """Read a dataset.json whose entries have the form that nnU-Net knows.

    Args:
        file: as nnU-Net will read it, too.

    Returns:
        The content; what may be missing there (see `check_dataset_json`) may be missing here.

    Raises:
        XModalError: for a file that is missing or no JSON object in UTF-8, a key that comes twice, and entries in
            another form.
    """
    content = _read_object(file)
    if "labels" in content:
        check_form(content["labels"], str(file))
    _check_reader(content.get("overwrite_image_reader_writer"), file)
    if "file_ending" in content:
        _check_file_ending(content["file_ending"], content, file)
    for key in ("channel_names", "modality"):
        if key in content:
            _check_channels(key, content[key], file)
    if "channel_names" in content and "modality" in content and content["channel_names"] != content["modality"]:
        raise XModalError(
            f'"channel_names" and "modality" of {file} differ, and nnU-Net reads both: delete "modality".'
        )
    if not isinstance(content.get("xmodal", {}), dict):
        raise XModalError(
            f'"xmodal" of {file} is {json.dumps(content["xmodal"])}: write it as {{"streams": [["T1"], ["T2"]]}}.'
        )
    if "dataset" in content:
        _check_listed(content["dataset"], file)
    if "numTraining" in content:
        content["numTraining"] = _count(content["numTraining"], file)
    return content


def check_dataset_json(content: Mapping, file: Path) -> None:
    """Check that nnU-Net can train on what a dataset.json says.

    Args:
        content: see `read_dataset_json`.
        file: where it comes from.

    Raises:
        XModalError: without labels, file ending or channels, and for labels that cannot be learnt or written, see
            `dataset_labels.check_labels`.
    """
    if "channel_names" not in content and "modality" not in content:
        raise XModalError(f'{file} has no "channel_names"; add for example {{"0": "T2W", "1": "ADC"}}.')
    for key in ("file_ending", "labels"):
        if key not in content:
            raise XModalError(f'{file} has no "{key}", which nnU-Net needs.')
    check_labels(content["labels"], content.get("regions_class_order"), str(file))


def read_trainable(file: Path) -> dict:
    """Read a dataset.json that nnU-Net can train on; raises as `read_dataset_json` and `check_dataset_json`."""
    content = read_dataset_json(file)
    check_dataset_json(content, file)
    return content


def read_plannable(file: Path) -> dict:
    """Read a dataset.json that nnU-Net can plan with; raises as `read_trainable`, and without a number of cases."""
    content = read_trainable(file)
    if "numTraining" not in content:
        raise XModalError(f'{file} has no "numTraining": add how many training cases there are.')
    return content


def _read_object(file: Path) -> dict:
    try:
        raw = file.read_bytes()
    except FileNotFoundError as error:
        raise XModalError(f"{file} is missing.") from error
    except OSError as error:
        raise XModalError(f"{file} cannot be read ({error.strerror}).") from error
    for mark, name in _MARKS:
        if raw.startswith(mark):
            raise XModalError(f"{file} is {name}, which nnU-Net cannot read: save it as plain UTF-8.")
    if b"\0" in raw:
        raise XModalError(f"{file} holds zero bytes: save it as plain UTF-8 text.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        near = raw[max(0, error.start - 10) : error.end + 5].decode("latin-1")
        raise XModalError(f"{file} is not in UTF-8 (at {near!r}): save it in that encoding.") from error
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except _Repeated as error:
        raise XModalError(f'{file} has the key "{error}" twice, and the last one would count: keep one.') from error
    except ValueError as error:
        raise XModalError(f"{file} is not valid JSON ({error}).") from error
    except RecursionError:
        raise XModalError(f"{file} nests lists or objects too deeply to be read: replace it.") from None
    if not isinstance(content, dict):
        raise XModalError(f"{file} holds a {type(content).__name__}: a dataset.json is an object, {{…}}.")
    return content


class _Repeated(Exception):
    """Names a key that comes twice in one object."""


def _without_repetition(pairs: list[tuple[str, object]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _Repeated(next(key for key in keys if keys.count(key) > 1))
    return content


def _check_reader(name: object, file: Path) -> None:
    """Refuse a reader that nnU-Net does not have, in whose place it takes another one with no more than a warning."""
    if name is None or name == "None":
        return
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES, recursive_find_reader_writer_by_name

    try:
        found = isinstance(name, str) and name.isidentifier() and recursive_find_reader_writer_by_name(name) is not None
    except (RuntimeError, AttributeError):  # nnU-Net's words for one that there is not
        found = False
    if not found:
        known = ", ".join(reader.__name__ for reader in LIST_OF_IO_CLASSES)
        raise XModalError(
            f'"overwrite_image_reader_writer" of {file} is {json.dumps(name)}, which is no reader of nnU-Net: take one '
            f"of {known}, or leave it out."
        )


def _check_file_ending(ending: object, content: Mapping, file: Path) -> None:
    if not isinstance(ending, str) or not ending.strip(" ."):
        raise XModalError(f'"file_ending" of {file} is {json.dumps(ending)}: write for example ".nii.gz".')
    plain = "." + ending.strip().lstrip("*_.0123456789")
    if not _PLAIN_ENDING.fullmatch(ending):
        way_out = f'write "{plain}"' if _PLAIN_ENDING.fullmatch(plain) else 'write for example ".nii.gz"'
        raise XModalError(f'"file_ending" of {file} is {json.dumps(ending)}: {way_out}.')
    if content.get("overwrite_image_reader_writer", "None") != "None":
        return
    from nnunetv2.imageio.reader_writer_registry import LIST_OF_IO_CLASSES  # imports every reader

    known = list(dict.fromkeys(known for reader in LIST_OF_IO_CLASSES for known in reader.supported_file_endings))
    if ending.lower() not in known:
        raise XModalError(
            f'"file_ending" of {file} is "{ending}", which no reader of nnU-Net reads: take one of {", ".join(known)}.'
        )


def _check_channels(key: str, names: object, file: Path) -> None:
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        numbered = json.dumps({str(number): name for number, name in enumerate(names)}, ensure_ascii=False)
        raise XModalError(f'"{key}" of {file} are a list, and nnU-Net wants them numbered: write {numbered}.')
    if isinstance(names, str):
        raise XModalError(f'"{key}" of {file} is "{names}": write {{"0": {json.dumps(names, ensure_ascii=False)}}}.')
    if not isinstance(names, dict) or not names:
        raise XModalError(f'"{key}" of {file} names no channels: write for example {{"0": "T2W", "1": "ADC"}}.')
    for number, name in names.items():
        if not isinstance(name, str):
            raise XModalError(
                f'"{key}" of {file} calls channel {number} {json.dumps(name)}: give it a name, as text in quotes.'
            )
    if not all(number.isdecimal() for number in names):
        if all(isinstance(name, str) and name.isdecimal() for name in names.values()):
            swapped = json.dumps({name: number for number, name in names.items()}, ensure_ascii=False)
            raise XModalError(f'"{key}" of {file} have names and numbers the other way round: write {swapped}.')
    wanted = [str(number) for number in range(len(names))]
    if set(names) != set(wanted):
        raise XModalError(f'"{key}" of {file} number the channels {", ".join(names)}: count them from 0 without a gap.')


def _check_listed(listed: object, file: Path) -> None:
    """Check the form of the lists of files that stand in for the folders of a raw dataset."""
    example = '{"case_1": {"images": ["images/a.nii.gz"], "label": "labels/a.nii.gz"}}'
    if not isinstance(listed, dict) or not listed:
        raise XModalError(f'"dataset" of {file} lists no cases: write for example {example}, or leave it out.')
    for case, files in listed.items():
        images = files.get("images") if isinstance(files, dict) else None
        if not isinstance(images, list) or not images or not all(isinstance(image, str) for image in images):
            raise XModalError(f'"dataset" of {file} lists no "images" of {case}: write for example {example}.')
        if not isinstance(files.get("label", ""), str):
            raise XModalError(f'"label" of {case} in {file} is {json.dumps(files["label"])}: write the path of a file.')


def _count(number: object, file: Path) -> int:
    if isinstance(number, str) and number.strip().isdecimal():
        raise XModalError(
            f'"numTraining" of {file} is the text "{number}", with which nnU-Net cannot count: write the number '
            f"{int(number)} without quotes."
        )
    count = int(number) if isinstance(number, float) and number.is_integer() else number
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise XModalError(f'"numTraining" of {file} is {json.dumps(number)}: write how many training cases there are.')
    return count
