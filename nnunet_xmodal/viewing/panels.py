"""What a page shows: panels of volumes on top of each other."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from nnunet_xmodal.errors import XModalError

MOST_PANELS = 16
"""Browsers draw in so many canvases of WebGL, and take the first one away for the next."""


@dataclass(frozen=True)
class Colours:
    """A colour for every label.

    Attributes:
        names: from 0 to the largest value; "" where there is none.
        rgba: 0 to 255, four numbers a label.
    """

    names: Sequence[str]
    rgba: Sequence[int]


@dataclass(frozen=True)
class Layer:
    """A volume as a panel shows it.

    Attributes:
        nifti: content of a `.nii.gz`.
        colormap: one of NiiVue's.
        window: the values that are darkest and brightest.
        opacity: 0 to 1.
        colours: of a label map, instead of `colormap`.
        is_flat: whether it is one slice, which has no other planes.
    """

    nifti: bytes = field(repr=False)
    window: tuple[float, float]
    colormap: str = "gray"
    opacity: float = 1.0
    colours: Colours | None = None
    is_flat: bool = False


@dataclass(frozen=True)
class Panel:
    """A title, and layers from the lowest."""

    title: str
    layers: Sequence[Layer]


def check_number(panels: int, case: str) -> None:
    """Check that a browser can draw so many panels.

    Raises:
        XModalError: if not.
    """
    if panels > MOST_PANELS:
        raise XModalError(
            f"{case} has {panels} panels, and a browser draws {MOST_PANELS}: give fewer folders, or leave out "
            "--probabilities."
        )
