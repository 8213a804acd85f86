"""The files of a case as panels: channels, then label maps, probabilities and maps over the first channel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_xmodal.comparison.case_table import read_label_map
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.detection import probability_channel, read_probabilities
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.viewing.label_colours import label_colours
from nnunet_xmodal.viewing.nifti_bytes import nifti_bytes
from nnunet_xmodal.viewing.panels import Layer, Panel

_OF_LABELS, _OF_HEAT = 0.5, 0.6  # opacities, under which an image is still seen
_LEAST_PROBABILITY = 0.05
_HEAT = "inferno"


@dataclass(frozen=True)
class CaseFiles:
    """What there is of a case.

    Attributes:
        case: its name.
        images: files of the channels there are, in their order.
        label_maps: title → file.
        probabilities: title → nnU-Net's `.npz`, of the grid of the label map of that title.
        maps: title → NIfTI of numbers, on any grid.
    """

    case: str
    images: Sequence[Path]
    label_maps: Mapping[str, Path] = field(default_factory=dict)
    probabilities: Mapping[str, Path] = field(default_factory=dict)
    maps: Mapping[str, Path] = field(default_factory=dict)


def panels_of(files: CaseFiles, dataset_json: dict) -> tuple[list[Panel], bool]:
    """Return a case's panels, and whether it is flat, one slice.

    Raises:
        XModalError: for files that cannot be read in full, hold a label that dataset.json does not name, or
            probabilities of another grid than their label map's.
    """
    channels, flat = _channels(files, dataset_json)
    ground = channels[0].layers[:1] if channels else ()
    over = [*_label_maps(files, dataset_json, ground), *_maps(files, ground)]
    return [*channels, *over], flat


def _channels(files: CaseFiles, dataset_json: dict) -> tuple[list[Panel], bool]:
    names, panels, flat = channel_names_of(dataset_json), [], False
    for file in files.images:
        image, geometry = read_image(file, dataset_json, is_label=False)
        number = int(file.name[: -len(dataset_json["file_ending"])].rpartition("_")[2])
        for channel, volume in enumerate(image, start=number):  # a picture holds several
            title = names[channel] if channel < len(names) else f"channel {channel}"
            panels.append(Panel(title, [Layer(nifti_bytes(volume, geometry), _window(volume))]))
            flat = volume.size == volume.shape[-1] * volume.shape[-2]
    return panels, flat


def _label_maps(files: CaseFiles, dataset_json: dict, ground: Sequence[Layer]) -> Iterator[Panel]:
    colours = label_colours(dataset_json)
    for title, file in files.label_maps.items():
        label_map, geometry = read_label_map(file, dataset_json)
        last = len(colours.names) - 1
        layer = Layer(nifti_bytes(label_map, geometry), (0.0, float(last)), opacity=_OF_LABELS, colours=colours)
        yield Panel(title, [*ground, layer])
        if title not in files.probabilities:
            continue
        probabilities = read_probabilities(files.probabilities[title])
        if probabilities.shape[1:] != label_map.reshape(-1, *label_map.shape[-2:]).shape:
            raise XModalError(
                f"{files.probabilities[title]} holds {probabilities.shape[1:]} voxels, and {file} {label_map.shape}: "
                "they are not of one prediction, predict again."
            )
        for label in foreground(dataset_json):
            volume = probabilities[probability_channel(dataset_json, label)].astype(np.float32)
            layer = _heat(nifti_bytes(volume.reshape(label_map.shape), geometry), (_LEAST_PROBABILITY, 1.0))
            yield Panel(f"{title}: probability of {label}", [*ground, layer])


def _maps(files: CaseFiles, ground: Sequence[Layer]) -> Iterator[Panel]:
    for title, file in files.maps.items():
        (volume,), geometry = read_image(file, {"file_ending": ".nii.gz"}, is_label=False)
        yield Panel(title, [*ground, _heat(nifti_bytes(volume, geometry), _window(volume[volume > 0], 50))])


def _heat(nifti: bytes, window: tuple[float, float]) -> Layer:
    """Below the window a layer that lies on another is not seen."""
    return Layer(nifti, window, _HEAT, _OF_HEAT)


def _window(values: np.ndarray, low: float = 1.0) -> tuple[float, float]:
    """Return the percentiles `low` and 99.5, apart even where all is one value."""
    if not values.size:
        return 0.0, 1.0
    darkest, brightest = (float(value) for value in np.percentile(values, (low, 99.5)))
    return (darkest, brightest) if brightest > darkest else (darkest, darkest + max(abs(darkest), 1.0))
