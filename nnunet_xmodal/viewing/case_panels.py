"""The files of a case as panels: channels, then label maps, probabilities and maps over the first channel."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nnunet_xmodal.comparison.case_table import read_label_map
from nnunet_xmodal.comparison.probabilities import check_prediction_of, probabilities_on
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.evaluation.detection import probability_channel
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import foreground
from nnunet_xmodal.viewing.label_colours import label_colours
from nnunet_xmodal.viewing.nifti_bytes import nifti_bytes
from nnunet_xmodal.viewing.panels import Layer, Panel, check_number

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


def panels_of(files: CaseFiles, dataset_json: dict) -> list[Panel]:
    """Return a case's panels.

    Raises:
        XModalError: for files that cannot be read in full, hold a label that dataset.json does not name, or
            probabilities of another grid or prediction than their label map's, and for more panels than a browser
            draws.
    """
    of_probabilities = len(files.probabilities) * len(foreground(dataset_json))
    check_number(len(files.images) + len(files.label_maps) + of_probabilities + len(files.maps), files.case)
    channels = list(_channels(files, dataset_json))
    ground = channels[0].layers[:1] if channels else ()
    panels = [*channels, *_label_maps(files, dataset_json, ground), *_maps(files, ground)]
    check_number(len(panels), files.case)  # a picture holds several channels
    return panels


def _channels(files: CaseFiles, dataset_json: dict) -> Iterator[Panel]:
    names = distinct_channel_names(dataset_json)
    for file in files.images:
        image, geometry = read_image(file, dataset_json, is_label=False)
        number = int(file.name[: -len(dataset_json["file_ending"])].rpartition("_")[2])
        for channel, volume in enumerate(image, start=number):  # a picture holds several
            title = names[channel] if channel < len(names) else f"channel {channel}"
            yield Panel(title, [Layer(nifti_bytes(volume, geometry), _window(volume), is_flat=_is_flat(volume))])


def _label_maps(files: CaseFiles, dataset_json: dict, ground: Sequence[Layer]) -> Iterator[Panel]:
    colours = label_colours(dataset_json)
    for title, file in files.label_maps.items():
        label_map, geometry = read_label_map(file, dataset_json)
        window = (0.0, float(len(colours.names) - 1))
        nifti, flat = nifti_bytes(label_map, geometry), _is_flat(label_map)
        layer = Layer(nifti, window, opacity=_OF_LABELS, colours=colours, is_flat=flat)
        yield Panel(title, [*ground, layer])
        if title not in files.probabilities:
            continue
        shape = label_map.reshape(-1, *label_map.shape[-2:]).shape
        probabilities = probabilities_on(files.probabilities[title], file, shape, geometry, dataset_json)
        check_prediction_of(files.probabilities[title], probabilities, file, label_map, dataset_json)
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


def _is_flat(volume: np.ndarray) -> bool:
    return volume.size == volume.shape[-1] * volume.shape[-2]


def _window(values: np.ndarray, low: float = 1.0) -> tuple[float, float]:
    """Return the percentiles `low` and 99.5 of what is finite, apart even where all is one value."""
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    darkest, brightest = (float(value) for value in np.percentile(values, (low, 99.5)))
    return (darkest, brightest) if brightest > darkest else (darkest, darkest + max(abs(darkest), 1.0))
