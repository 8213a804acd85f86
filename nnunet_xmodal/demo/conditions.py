"""What the demo's new cases lack: nothing, or one stream of channels."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Condition:
    """A choice of channels that are there.

    Attributes:
        missing: numbers of the channels that are not there.
        without: their names, joined by "+"; empty where nothing is missing.
    """

    missing: tuple[int, ...] = ()
    without: str = ""

    def __str__(self) -> str:
        return f"without {self.without}" if self.without else "complete"


def conditions_of(streams: Sequence[Sequence[int]], names: Sequence[str]) -> list[Condition]:
    """Return all streams, and all but each of them; with one stream only the first."""
    lacking = [Condition(tuple(stream), "+".join(names[channel] for channel in stream)) for stream in streams]
    return [Condition(), *(lacking if len(streams) > 1 else [])]
