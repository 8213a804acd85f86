"""What the Dockerfile and Apptainer's definition do, in words that can be compared."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]


def dockerfile() -> dict[str, list[str]]:
    """Instruction → what follows it, one entry each; the commands of RUN one by one."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).extend(rest.split("&&") if name == "RUN" else [rest])
    return {name: [" ".join(entry.split()) for entry in entries] for name, entries in found.items()}


def definition() -> dict[str, list[str]]:
    """Section, or word of the header, → its lines."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in (ROOT / "container" / "apptainer.def").read_text(encoding="utf-8").splitlines():
        if line.startswith("%"):
            section = line[1:].strip()
        elif header := re.fullmatch(r"(Bootstrap|From): (\S+)", line):
            found[header[1]] = [header[2]]
        elif line.strip() and not line.startswith("#"):
            found.setdefault(section, []).append(line.strip())
    return found


def copied() -> dict[str, str]:
    """Path in the checkout → its place in Apptainer's image."""
    return dict(shlex.split(line) for line in definition()["files"])
