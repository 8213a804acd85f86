"""JSON files as they are read from users and from interrupted commands."""

import json
from pathlib import Path
from typing import Any

from nnunet_xmodal.errors import XModalError


def read_json(file: str | Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        XModalError: (a ValueError) for a file that is cut off, no JSON, no text, or nested too deeply to be read.
        OSError: for one that is not there or must not be read.
    """
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except RecursionError:
        raise XModalError(f"{file} nests lists or objects too deeply to be read: replace it.") from None
    except ValueError as error:
        raise XModalError(f"{file} is not valid JSON ({error}): correct it, or make it anew.") from error
