"""A colour and a name for every value of a label map."""

import colorsys

from nnunet_xmodal.datasets.cases import label_values
from nnunet_xmodal.files.labels import foreground, ignore_label
from nnunet_xmodal.viewing.panels import Colours

_GOLDEN = 0.618034  # of a turn of hues: neighbours differ, however many there are
_FIRST_HUE = 0.02


def label_colours(dataset_json: dict) -> Colours:
    """Return what a page shows label maps with; the background has no colour, and the ignore label is grey.

    With regions, a value is called as the smallest region that it belongs to.
    """
    labels, ignore = foreground(dataset_json), ignore_label(dataset_json)
    names, rgba = [], []
    colours: dict[str, tuple[float, float, float]] = {}  # a region has one, whatever values are its own
    for value in range(max(label_values(dataset_json), default=0) + 1):
        of_it = [name for name, values in labels.items() if value in values]
        name = min(of_it, key=lambda name: len(labels[name]), default="")
        colour = colorsys.hsv_to_rgb((_FIRST_HUE + _GOLDEN * (value - 1)) % 1, 0.75, 0.95)
        if value == ignore:
            name, colour = "ignore", (0.5, 0.5, 0.5)
        names.append(name)
        rgba += [round(255 * part) for part in colours.setdefault(name, colour)] + [255 if name else 0]
    return Colours(names, rgba)
