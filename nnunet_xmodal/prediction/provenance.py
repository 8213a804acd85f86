"""Beside predictions: what they were made of, case by case."""

from pathlib import Path

from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.prediction.request import PredictionRequest


def provenance_file(name: str, request: PredictionRequest) -> Path:
    """Name `<name>.json` in the output folder; requests that share the cases have a file each."""
    return Path(request.output) / f"{name}{request.part}.json"


def record_origins(origins: dict[str, dict], file: Path) -> None:
    """Write where every case comes from; the entries of cases that an earlier call predicted stay."""
    recorded = read_json(file) if file.is_file() else {}
    write_json(recorded | origins, file)
