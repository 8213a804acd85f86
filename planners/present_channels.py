"""nnU-Net's preprocessing of cases that lack channels: those that there are, as if there were no others."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from nnunetv2.preprocessing.preprocessors import default_preprocessor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.presence import MISSING
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.stand_ins import stand_ins
from nnunet_xmodal.prediction.channel_subset import with_channels_only

NUMBER = 4  # digits before the ending


class PreprocessorOfPresentChannels(DefaultPreprocessor):
    """The channels that a case has decide its crop and are normalised; the others become 0, and are noted.

    Files tell their channels by their numbers. Complete cases are preprocessed as by nnU-Net.
    """

    configuration_name: str

    def run(
        self, dataset_name_or_id: int | str, configuration_name: str, plans_identifier: str, num_processes: int
    ) -> None:
        """Preprocess a configuration of a dataset as nnU-Net does."""
        self.configuration_name = configuration_name  # travels to the worker processes
        super().run(dataset_name_or_id, configuration_name, plans_identifier, num_processes)

    def run_case(
        self,
        image_files: list[str],
        seg_file: str | None,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        dataset_json: dict | str,
    ) -> tuple[np.ndarray, np.ndarray, dict]:
        """Preprocess a case from those of its files that there are, as nnU-Net asks for it.

        Returns:
            Images `(C, *spatial)` of all channels, labels `(1, *spatial)`, and properties, which name those that are
            missing.
        """
        content: dict = read_json(dataset_json) if isinstance(dataset_json, str) else dataset_json
        n_channels, ending = len(channel_names_of(content)), content["file_ending"]
        channels = [int(Path(file).name.removesuffix(ending)[-NUMBER:]) for file in image_files]
        missing = [channel for channel in range(n_channels) if channel not in channels]
        if not missing or len(channels) == 1 and _holds_all(image_files[0], plans_manager, n_channels):
            return super().run_case(image_files, seg_file, plans_manager, configuration_manager, content)
        of_present = with_channels_only(channels, plans_manager, self.configuration_name, content)
        present, labels, properties = super().run_case(image_files, seg_file, *of_present)
        images = np.zeros((n_channels, *present.shape[1:]), present.dtype)
        images[channels] = present
        return images, labels, {**properties, MISSING: missing}


def _holds_all(file: str, plans: PlansManager, n_channels: int) -> bool:
    """Tell whether a picture holds all channels."""
    images, _ = plans.image_reader_writer_class().read_images([file])
    return len(images) == n_channels


def preprocessing_present_channels() -> AbstractContextManager[None]:
    """Let nnU-Net's preprocessing of training cases take those that lack channels, within the block."""
    return stand_ins({"DefaultPreprocessor": PreprocessorOfPresentChannels}, default_preprocessor)
