"""Synthetic modalities: what a pair of generators makes of the images that there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.partial_cases import PartialCase, partial_cases
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.prediction.channel_subset import with_channels_only
from nnunet_xmodal.prediction.finished import remaining_cases
from nnunet_xmodal.prediction.image_predictor import ImagePredictor, float_ending
from nnunet_xmodal.prediction.native_geometry import crop_of_case
from nnunet_xmodal.prediction.provenance import provenance_file, record_origins
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.replaced import replaced
from nnunet_xmodal.tasks.synthesis.options import SynthesisOptions

PROVENANCE = "synthesised"
"""Beside the images: what was made of what, by which trainer, on which scale."""


@dataclass(frozen=True)
class SourceCase:
    """A case with the streams whose files are all there.

    Attributes:
        given: the streams whose files are all there, "A", "B" or "AB".
        images: channel number → file, of these streams.
    """

    name: str
    given: str
    images: dict[int, Path]


class SynthesisPredictor(ImagePredictor):
    """Predictor that writes `<case>_<channel number>` of every channel that is made of the files that exist.

    With the files of one stream only, the other stream is made of it, and the network of that direction alone runs;
    with all files both. Intensities are on the normalised scale of the training unless `reference_intensities` maps
    them. Where nnU-Net normalises within the non-zero voxels, all else is 0 in the result, too.

    Attributes:
        reference_intensities: per made channel mean and standard deviation, or one pair for all.
        configuration_name: of the plans' configuration that the model was trained on.
    """

    options_class = SynthesisOptions
    options = SynthesisOptions()

    reference_intensities: Sequence[float] | None = None
    configuration_name: str | None = None

    def predict_folder(self, request: PredictionRequest) -> None:
        """Make what is missing of every case.

        Raises:
            XModalError: before anything is written, for cases with neither stream complete, faulty images, numbers
                of reference intensities that do not fit, and an output that would replace an input.
        """
        if request.save_probabilities:
            raise XModalError(f"the model of {self.trainer_name} makes images: there are no probabilities to save.")
        self.reference_intensities = self.options.reference_intensities
        self.configuration_name = request.configuration
        output, ending = Path(request.output), self._file_ending
        found = partial_cases(request.images, self.dataset_json)
        cases = list(request.of_this_part(source_cases(found, self.dataset_json, self.network)))
        made = {case.name: [output / f"{case.name}_{n:04d}{ending}" for n in self._made(case.given)] for case in cases}
        inputs = {file.resolve() for case in found for file in case.files.values()}
        for case in cases:
            clash = {file.resolve() for file in made[case.name]} & inputs
            if clash:
                raise XModalError(f"{min(clash)} is an input and would be replaced: write to another folder with -o.")
        if request.continue_prediction:
            cases = remaining_cases(cases, lambda case: made[case.name])
        self._check(_by_given(cases), request)
        output.mkdir(parents=True, exist_ok=True)
        provenance = provenance_file(PROVENANCE, request)
        # beforehand: whatever is interrupted, no image is without its origin
        record_origins({case.name: self._origin(case, made[case.name]) for case in cases}, provenance)
        self.synthesise(cases, output, request.preprocessing_processes)
        print(f"Synthesised images are in {output}, {self._scale}; {provenance.name} tells what each was made of.")

    def read_result(self, case: str, output: Path) -> dict[str, sitk.Image]:
        """Read the images that were made of a case, by the names of their channels."""
        names = channel_names_of(self.dataset_json)
        files = {name: output / f"{case}_{number:04d}{self._file_ending}" for number, name in enumerate(names)}
        return {name: sitk.ReadImage(str(file)) for name, file in files.items() if file.is_file()}

    def synthesise(self, cases: list[SourceCase], output: Path, processes: int) -> None:
        """Write what can be made of the cases' files; `processes` of them preprocess."""
        for group in _by_given(cases):
            self._predict_group(group, output, processes)

    def _made(self, given: str) -> list[int]:
        """Numbers of the channels that are written."""
        if given == "AB":
            return sorted(self.network.makes["A"] + self.network.makes["B"])
        return self.network.makes[given]

    def _check(self, groups: list[list[SourceCase]], request: PredictionRequest) -> None:
        numbers = self.reference_intensities
        if numbers is not None and not all(sd > 0 for sd in numbers[1::2]):
            raise XModalError("--reference_intensities has a standard deviation that is not positive: give MEAN SD.")
        for group in groups:
            made = self._made(group[0].given)
            if numbers is not None and len(numbers) not in (2, 2 * len(made)):
                raise XModalError(
                    f"--reference_intensities has {len(numbers)} numbers, but {len(made)} channels are made of "
                    f"{group[0].name}: give one MEAN SD for all, or one for each."
                )
            *_, dataset_json = self._with_channels_of(group[0])
            check_cases(
                [Case(case.name, list(case.images.values())) for case in group],
                dataset_json,
                request.checking_processes,
                request.progress,
                doing=f"Checking {len(group)} cases",
            )

    def _with_channels_of(self, case: SourceCase) -> tuple[PlansManager, ConfigurationManager, dict]:
        channels = list(case.images)
        assert self.configuration_name is not None, "whoever loads the model names its configuration"
        return with_channels_only(channels, self.plans_manager, self.configuration_name, self.dataset_json)

    def _predict_group(self, group: list[SourceCase], output: Path, processes: int) -> None:
        plans, configuration, dataset_json = self._with_channels_of(group[0])
        self._background_is_zero = self._normalised_within_mask(group[0].given)
        self.channel_numbers = self._made(group[0].given)
        self._sources = {case.name: case.images for case in group}
        with (
            replaced(self, plans_manager=plans, configuration_manager=configuration, dataset_json=dataset_json),
            replaced(self.network, given=group[0].given),
        ):
            self.predict_from_data_iterator(
                self.preprocessed(
                    [[str(file) for file in case.images.values()] for case in group],
                    [str(output / case.name) for case in group],
                    processes,
                )
            )

    def _normalised_within_mask(self, given: str) -> bool:
        return all(self.configuration_manager.use_mask_for_norm[channel] for channel in self._made(given))

    def finished(self, images: np.ndarray, case: dict) -> np.ndarray:
        """Return images on the scale that was asked for, with the background of those that they were made of: 0 outside
        nnU-Net's crop, and, where normalisation has left it out, within.
        """
        if self.reference_intensities is not None:
            mean, sd = np.reshape(np.asarray(self.reference_intensities, np.float32), (-1, 2)).T
            # outside is what all images lack, and 0 in them: whoever reads what is made crops it again
            crop = (slice(None), *crop_of_case(case["data_properties"], self.plans_manager))
            images[crop] = images[crop] * sd[:, None, None, None] + mean[:, None, None, None]
        if self._background_is_zero:
            files = [str(file) for file in self._sources[Path(case["ofile"]).name].values()]
            sources, _ = self.plans_manager.image_reader_writer_class().read_images(files)
            images = np.where(create_nonzero_mask(sources), images, 0)
        return images

    @property
    def _scale(self) -> str:
        if self.reference_intensities is None:
            return "on the normalised scale of the training (--reference_intensities MEAN SD maps it)"
        return f"mapped to mean and SD {' '.join(f'{number:g}' for number in self.reference_intensities)}"

    @property
    def _file_ending(self) -> str:
        return float_ending(self.dataset_json["file_ending"])

    def _origin(self, case: SourceCase, made: list[Path]) -> dict:
        names = channel_names_of(self.dataset_json)
        return {
            "made_of": [names[channel] for channel in case.images],
            "made": {image.name: names[channel] for image, channel in zip(made, self._made(case.given))},
            "trainer": self.trainer_name,
            "scale": self._scale,
        }


def source_cases(cases: list[PartialCase], dataset_json: dict, pair: GeneratorPair) -> list[SourceCase]:
    """Return the cases with the streams whose files are all there.

    Raises:
        XModalError: for a case with neither stream complete.
    """
    streams, sources = list(pair.streams.values()), []
    for case in cases:
        case.check_has_a_stream(streams, dataset_json)
        given = "".join("AB"[number] for number in case.given(streams))
        channels = sorted(case.files) if given == "AB" else pair.streams[given]
        sources.append(SourceCase(case.name, given, {channel: case.files[channel] for channel in channels}))
    return sources


def _by_given(cases: list[SourceCase]) -> list[list[SourceCase]]:
    groups = [[case for case in cases if case.given == given] for given in ("A", "B", "AB")]
    return [group for group in groups if group]
