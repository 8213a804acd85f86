"""The temperature of a model, stored in its folder: what its logits are divided by for calibrated probabilities.

Guo et al., On calibration of modern neural networks, ICML 2017.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json

NAME = "temperature.json"


def read_temperature(model: Path) -> float:
    """Read the temperature of a model, above 0.

    Args:
        model: its folder, `TRAINER__PLANS__CONFIGURATION`.

    Raises:
        XModalError: where none was fitted, and for a file that holds none.
    """
    file = model / NAME
    if not file.is_file():
        raise XModalError(
            f"{file} is missing: --temperature takes what nnUNetXModal_compare --temperature has fitted on the "
            "validation cases."
        )
    content = read_json(file)
    value = content.get("temperature") if isinstance(content, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise XModalError(f'{file} holds no "temperature" above 0: fit it with nnUNetXModal_compare --temperature.')
    return float(value)


def temperature_file(model: Path) -> Path:
    """Return where the temperature of a model lies, or would."""
    return model / NAME


def noted_folds(model: Path) -> list:
    """Return the folds that a model's temperature was fitted on; none without one, or without a note of them."""
    file = temperature_file(model)
    content = read_json(file) if file.is_file() else {}
    folds = content.get("folds") if isinstance(content, Mapping) else None
    return folds if isinstance(folds, list) else []


def not_fitted_on(model: Path, folds: Sequence[int | str]) -> list[str]:
    """Return those of some folds that a model's temperature was not fitted on; none where that was not noted."""
    noted = {str(fold) for fold in noted_folds(model)}
    return [str(fold) for fold in folds if noted and str(fold) not in noted]


def write_temperature(temperature: float, noted: Mapping[str, object], model: Path) -> Path:
    """Write the temperature of a model, and what it was fitted on; return the file."""
    file = model / NAME
    write_json({"temperature": temperature, **noted}, file)
    return file
