"""What a dataset is prepared with; the same for all of its cases."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from nnunet_xmodal.preparation.label_maps import Labels

LABEL = "label"
"""The name of the label among channels: as reference, and in the report."""


@dataclass(frozen=True)
class PreparationSettings:
    """The settings of a preparation.

    Attributes:
        channels: in the order of their numbers.
        reference: the channel whose grid all get, or "label".
        labels: as in dataset.json; None for a dataset without.
        label_map: old → new value.
        label_component: of 4D label files, from 0.
        streams: names of the channels of each; None leaves them to later.
        register: whether channels are aligned by mutual information.
        roi: name or value of the label, or the folder of masks, that images are cropped to; None for whole ones.
        roi_values: of the organ in these masks; all from 0.5 on where none are named.
        margin_mm: around it.
        unlabelled: where cases without a label go: `Ts` or `Tr`.
        orientation: code of the axes along which all cases are stored, see `geometry.orientation`; None leaves them.
        allow_missing: whether cases may lack channels.
        described: what the dataset.json of a raw dataset that this one is made of says beside.
    """

    channels: Sequence[str]
    reference: str
    labels: Labels | None = None
    label_map: Mapping[int, int] = field(default_factory=dict)
    label_component: int | None = None
    streams: Sequence[Sequence[str]] | None = None
    register: bool = False
    roi: str | None = None
    roi_values: Sequence[int] = ()
    margin_mm: float = 0.0
    unlabelled: Literal["Ts", "Tr"] = "Ts"
    orientation: str | None = None
    allow_missing: bool = False
    described: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fixed(self) -> str:
        """Return the channel that others are aligned with, and that the label was drawn on."""
        return self.channels[0] if self.reference == LABEL else self.reference

    def for_case(self, present: Container[str]) -> "PreparationSettings":
        """Return the settings for a case that has these channels alone: where the reference is missing, the first one
        that is there takes its place.
        """
        channels = [name for name in self.channels if name in present]
        reference = self.reference if self.reference in (*channels, LABEL) else channels[0]
        return replace(self, channels=tuple(channels), reference=reference)

    def as_json(self) -> dict:
        """Return the fields with strings for keys, as a file gives them back."""
        content = asdict(self)
        content["label_map"] = {str(old): new for old, new in self.label_map.items()}
        content["channels"], content["roi_values"] = list(self.channels), list(self.roi_values)
        content["streams"] = self.streams and [list(stream) for stream in self.streams]
        for name in ("orientation", "allow_missing", "described"):  # datasets prepared before there were any
            if not content[name]:
                del content[name]
        return content
