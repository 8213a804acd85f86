"""The text logs that nnU-Net's trainings leave in a fold's folder: epochs, losses, pseudo Dice, times.

Logs instead of checkpoints, because they grow while a training runs and need no torch to be read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

_LINE = re.compile(r"^(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?): (?P<text>.*?)\s*$")
_NUMBER = re.compile(r"(?<![\w.])(?:[-+]?\d+\.?\d*(?:e[-+]?\d+)?|[-+]?inf|nan)", re.IGNORECASE)


@dataclass
class Epoch:
    """Losses without unit, pseudo Dice per label as a fraction, seconds."""

    number: int
    train_loss: float | None = None
    val_loss: float | None = None
    pseudo_dice: tuple[float, ...] = ()
    seconds: float | None = None

    @property
    def is_complete(self) -> bool:
        """Return whether the epoch has ended."""
        return self.seconds is not None


@dataclass
class TrainingLog:
    """Epochs and the last validation of a fold, read from nnU-Net's logs.

    Attributes:
        epochs: in their order; after a restart those that were trained again are the later ones.
        predicted: case → when its prediction began in the last validation.
        validated: when that validation ended; None if it did not.
    """

    epochs: list[Epoch] = field(default_factory=list)
    predicted: dict[str, datetime] = field(default_factory=dict)
    validated: datetime | None = None

    @property
    def completed(self) -> list[Epoch]:
        """Return the epochs that have ended."""
        return [epoch for epoch in self.epochs if epoch.is_complete]

    @property
    def seconds_per_epoch(self) -> float | None:
        """Return the median over all complete epochs but the first, which warms up; seconds."""
        seconds = sorted(s for epoch in self.completed[1:] or self.completed if (s := epoch.seconds) is not None)
        return seconds[len(seconds) // 2] if seconds else None

    @property
    def seconds_per_case(self) -> float | None:
        """Return seconds per case in the last complete validation: loading, predicting and writing, mean over cases."""
        if self.validated is None or not self.predicted:
            return None
        return (self.validated - min(self.predicted.values())).total_seconds() / len(self.predicted)


def log_files(fold: str | Path) -> list[Path]:
    """Return nnU-Net's logs of a fold, oldest first; each start writes one, `training_log_2025_9_30_08_05_00.txt`."""

    def when(file: Path) -> list[int]:  # nnU-Net writes months and days without leading zeros
        return [int(number) for number in re.findall(r"\d+", file.name)]

    return sorted(Path(fold).glob("training_log_*.txt"), key=when)


def lines_of(files: Iterable[Path]) -> Iterator[str]:
    """Yield the lines of text files, whatever their encoding."""
    for file in files:
        with open(file, encoding="utf-8", errors="replace") as stream:
            yield from stream


def read_training_log(fold: str | Path) -> TrainingLog:
    """Read the logs of all starts of a fold together."""
    return parse_training_log(lines_of(log_files(fold)))


def parse_training_log(lines: Iterable[str]) -> TrainingLog:
    """Read the lines of logs, see `read_training_log`."""
    log = TrainingLog()
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            continue
        try:
            time, text = datetime.fromisoformat(match["time"]), match["text"]
        except ValueError:  # digits that are no time
            continue
        word, _, rest = text.partition(" ")
        if word == "Epoch" and rest.isdecimal():
            while log.epochs and log.epochs[-1].number >= int(rest):
                log.epochs.pop()
            log.epochs.append(Epoch(int(rest)))
            log.predicted, log.validated = {}, None
        elif word == "predicting":
            if log.validated is not None or rest in log.predicted:
                log.predicted, log.validated = {}, None
            log.predicted[rest] = time
        elif text == "Validation complete":
            log.validated = time
        elif log.epochs:
            _read_into(log.epochs[-1], text)
    return log


def _read_into(epoch: Epoch, text: str) -> None:
    for name, key in (("train_loss", "train_loss"), ("val_loss", "val_loss"), ("Epoch time:", "seconds")):
        if text.startswith(name):
            numbers = _NUMBER.findall(text[len(name) :])
            if numbers:
                setattr(epoch, key, float(numbers[0]))
    if text.startswith("Pseudo dice"):
        epoch.pseudo_dice = tuple(map(float, _NUMBER.findall(text[len("Pseudo dice") :])))
