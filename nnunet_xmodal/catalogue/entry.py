"""A family of trainers, or of planners, as people look it up."""

from collections.abc import Iterable
from dataclasses import dataclass

TASKS = ("segmentation", "synthesis", "registration", "reconstruction", "few-shot")

PREFIX = "nnUNetTrainer"


@dataclass(frozen=True)
class Entry:
    """Names that one sentence describes.

    Attributes:
        names: the first is the one to begin with.
        task: one of TASKS.
        what: a sentence in Markdown; links lead from the repository's root.
        paper: short, e.g. "CSAD + SCFF"; empty for what is this package's own.
        page: in documentation/, where its equations are.
        streams: how many, e.g. "2 or more".
        dimensions: e.g. "2D, 3D".
        needs: what else, e.g. a planner; empty for nothing.
    """

    names: tuple[str, ...]
    task: str
    what: str
    paper: str = ""
    page: str = ""
    streams: str = "1 or more"
    dimensions: str = "2D, 3D"
    needs: str = ""

    def matches(self, words: Iterable[str]) -> bool:
        """Tell whether every word is somewhere in this entry, in any case of letters."""
        text = " ".join(
            (*self.names, self.task, self.what, self.paper, self.streams, self.dimensions, self.needs)
        ).lower()
        return all(word.lower() in text for word in words)


def shortened(names: tuple[str, ...]) -> list[str]:
    """Return the first name as it is, and those that go on from it as `…` and their end."""
    first, *others = names
    return [first, *(f"…{name.removeprefix(first)}" if name.startswith(first) else name for name in others)]
