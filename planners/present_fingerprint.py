"""nnU-Net's fingerprint of a dataset whose cases lack channels: a channel's numbers are of the cases that have it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.imageio.reader_writer_registry import determine_reader_writer_from_dataset_json

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.checks import map_cases
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json

_SAMPLES = 10e7  # labelled voxels of all cases together, nnU-Net's number
_PERCENTILES = {"percentile_00_5": 0.5, "median": 50.0, "percentile_99_5": 99.5}


def extract_present_fingerprint(
    cases: Sequence[Case], dataset_json: dict, folder: Path, processes: int, recompute: bool, progress: bool
) -> None:
    """Write `dataset_fingerprint.json`; that of complete cases is nnU-Net's.

    nnU-Net's own extractor wants as many numbers of every channel.

    Args:
        cases: with the channels that each has.
        folder: of the preprocessed dataset.
        recompute: whether a file that is there is written anew.

    Raises:
        XModalError: for a channel that no case with a labelled voxel has.
    """
    file = folder / "dataset_fingerprint.json"
    if file.is_file() and not recompute:
        return
    reader = determine_reader_writer_from_dataset_json(dataset_json, str(cases[0].images[0]))
    analysis = _Analysis(reader, int(_SAMPLES // len(cases)))
    shapes, spacings, sizes = [], [], []
    intensities: list[list[np.ndarray]] = [[] for _ in channel_names_of(dataset_json)]
    doing = "Extracting dataset fingerprint"
    for case, (shape, spacing, of_channels, _, size) in zip(
        cases, map_cases(analysis, list(cases), processes, progress, doing)
    ):
        shapes.append(shape)
        spacings.append(spacing)
        sizes.append(size)
        for channel, found in zip(case.channels or range(len(intensities)), of_channels, strict=True):
            intensities[channel].append(np.asarray(found))
    names = channel_names_of(dataset_json)
    properties = {number: _statistics(np.concatenate(found), names[number]) for number, found in enumerate(intensities)}
    fingerprint = {
        "spacings": spacings,
        "shapes_after_crop": shapes,
        "foreground_intensity_properties_per_channel": properties,
        "median_relative_size_after_cropping": float(np.median(sizes)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(fingerprint, file)


class _Analysis:
    """Case → what nnU-Net's extractor finds in it; a class because workers need to pickle it."""

    def __init__(self, reader: type[BaseReaderWriter], samples: int) -> None:
        self.reader, self.samples = reader, samples

    def __call__(self, case: Case) -> tuple:
        images = [str(file) for file in case.images]
        return DatasetFingerprintExtractor.analyze_case(images, str(case.label_file), self.reader, self.samples)


def _statistics(intensities: np.ndarray, name: str) -> dict[str, float]:
    if not len(intensities):
        raise XModalError(
            f"no case that has {name} has a labelled voxel, and nnU-Net plans by the intensities of such: label one, "
            "or take the channel out of dataset.json."
        )
    numbers = {
        "mean": np.mean(intensities),
        "std": np.std(intensities),
        "min": np.min(intensities),
        "max": np.max(intensities),
        **dict(zip(_PERCENTILES, np.percentile(intensities, list(_PERCENTILES.values())))),
    }
    return {key: float(value) for key, value in numbers.items()}
