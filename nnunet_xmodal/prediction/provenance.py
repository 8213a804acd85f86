"""Beside predictions: what they were made of, case by case."""

from argparse import Namespace
from pathlib import Path

from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json


def provenance_file(name: str, args: Namespace) -> Path:
    """`<name>.json` in the output folder; calls that share the cases have a file each."""
    part = f"_part{args.part_id}of{args.num_parts}" if args.num_parts > 1 else ""
    return Path(args.o) / f"{name}{part}.json"


def tell_of_cases(entries: dict[str, dict], file: Path) -> None:
    """Writes the entries; those of cases that an earlier call predicted stay."""
    told = read_json(file) if file.is_file() else {}
    write_json(told | entries, file)
