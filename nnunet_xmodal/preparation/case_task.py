"""What a process needs to know to prepare one case."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.preparation.record import Record
from nnunet_xmodal.preparation.settings import PreparationSettings
from nnunet_xmodal.preparation.sources import SourceCase


@dataclass(frozen=True)
class CaseTask:
    """A case and all that its preparation needs to know.

    Attributes:
        dataset: folder of the raw dataset.
        roi_mask: what the case is cropped to, where that is not its label.
        previous: record of an earlier attempt, whose files are replaced unless the case was done with these inputs.
        overwrite: whether files that no record knows, and those of a case that is done, are replaced.
    """

    source: SourceCase
    settings: PreparationSettings
    dataset: Path
    fingerprint: str
    roi_mask: Path | None = None
    previous: Record | None = None
    overwrite: bool = False

    @property
    def incomplete(self) -> Record | None:
        """Return the record if the case was done with these inputs and lacks files since: what is there stays."""
        previous = self.previous
        if previous is None or not previous.done or previous.fingerprint != self.fingerprint or self.overwrite:
            return None
        return previous
