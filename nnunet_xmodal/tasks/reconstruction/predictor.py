"""Images that a regression network makes of other images, in physical units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.preprocessing.cropping.cropping import create_nonzero_mask

from nnunet_xmodal.datasets.cases import Case, files_by_channel
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.figures.planes import ShownVolume, draw_planes, window
from nnunet_xmodal.files.folders import check_apart, check_no_file
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.prediction.channel_subset import with_channels_only
from nnunet_xmodal.prediction.finished import remaining_cases
from nnunet_xmodal.prediction.image_predictor import ImagePredictor, float_ending, write_image
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.reconstruction.checks import check_mask, first_fault
from nnunet_xmodal.tasks.reconstruction.options import ReconstructionOptions


@dataclass(frozen=True)
class CaseToReconstruct:
    """The files of a case.

    Attributes:
        images: files of the input channels, in their order.
        mask: outside of which the result is 0; None for the non-zero region of the inputs.
    """

    name: str
    images: list[Path]
    mask: Path | None


class ReconstructionPredictor(ImagePredictor):
    """Predictor that writes CASE.nii.gz, float32 in the target's unit, and CASE.png: planes of input and result.

    Outside the mask the result is 0: that of `--mask`, else nnU-Net's non-zero region of the inputs with its holes
    filled, which for a local field is the brain. What is predicted otherwise than by `predict_folder`, from arrays or
    lists of files, is cut to no mask, and written as ImagePredictor does it.

    Attributes:
        unit: of the result, for titles; "" for none.
    """

    options_class: type = ReconstructionOptions
    options = ReconstructionOptions()
    unit = ""

    _sources: Mapping[str, CaseToReconstruct] = MappingProxyType({})  # of predict_folder

    def on_network_grid(self, inputs: np.ndarray, properties: dict) -> np.ndarray:
        """Predict a preprocessed case with the network as it is now: `(C, *spatial)` → float32 `(outputs, *spatial)`.

        Args:
            properties: what nnU-Net's reader and preprocessor have noted about it.
        """
        self.begin(properties)
        return self.predict_sliding_window_return_logits(torch.from_numpy(np.ascontiguousarray(inputs))).cpu().numpy()

    def predict_folder(self, request: PredictionRequest) -> None:
        """Reconstruct every case.

        Raises:
            XModalError: before anything is written, for a missing input, a target among the inputs, faulty images and
                masks, and an output that is the folder of the inputs or of the masks.
        """
        if request.save_probabilities:
            raise XModalError(f"the model of {self.trainer_name} makes images: there are no probabilities to save.")
        output, masks = Path(request.output), self.options.mask
        check_apart(output, request.folders_read)
        if masks is not None:
            check_no_file(masks)
        target = TargetChannel.of_plans(self.plans_manager.plans, self.trainer_name)
        self._target_name = channel_names_of(self.dataset_json)[target.index]
        found = cases_to_reconstruct(request.images, self.dataset_json, target, masks)
        cases = list(request.of_this_part(found))
        if request.continue_prediction:
            cases = remaining_cases(cases, lambda case: self._files(output / case.name))
        self.plans_manager, self.configuration_manager, self.dataset_json = with_channels_only(
            range(target.index), self.plans_manager, request.configuration, self.dataset_json
        )
        self.check_images(cases, request)
        output.mkdir(parents=True, exist_ok=True)
        if cases:
            self._sources = {case.name: case for case in cases}
            images = [[str(file) for file in case.images] for case in cases]
            self.predict_from_data_iterator(
                self.preprocessed(images, [str(output / case.name) for case in cases], request.preprocessing_processes)
            )
        unit = f" in {self.unit}" if self.unit else ""
        print(f"{self._target_name}{unit} of {len(cases)} cases is in {output}.")

    def check_images(self, cases: Sequence[CaseToReconstruct], request: PredictionRequest) -> None:
        """Check the inputs and masks of `predict_folder`, when plans and dataset.json know the inputs only.

        Raises:
            XModalError: for the first case with faulty images or a faulty mask; says how many others there are.
        """
        check_cases(
            [Case(case.name, case.images) for case in cases],
            self.dataset_json,
            request.checking_processes,
            request.progress,
            doing=f"Checking {len(cases)} cases",
        )
        fault = first_fault([lambda case=case: self.check_case(case) for case in cases])
        if fault:
            raise XModalError(fault)

    def check_case(self, case: CaseToReconstruct) -> None:
        """Check the mask of a case; without a mask, that its images are not all 0.

        Raises:
            XModalError: for a mask that is missing, empty, or on another grid, and without one for images of zeros.
        """
        if case.mask is not None:
            return check_mask(case.mask, case.images[0], self.dataset_json)
        if not any(np.any(read_image(file, self.dataset_json, is_label=False)[0]) for file in case.images):
            raise XModalError(f"{case.images[0]} is 0 everywhere: there is nothing to reconstruct.")

    def finished(self, images: np.ndarray, case: dict) -> np.ndarray:
        """Return images that are 0 outside the mask."""
        source = self._source_of(case)
        return images if source is None else np.where(self._inputs_and_mask(source)[1], images, 0)

    def write(self, images: np.ndarray, case: dict) -> None:
        """Write the images and the figure of a case."""
        source = self._source_of(case)
        if source is None:
            return super().write(images, case)
        *files, figure = self._files(Path(case["ofile"]), len(images))
        for file, image in zip(files, images):
            write_image(image, case["data_properties"], file)
        inputs, mask = self._inputs_and_mask(source)
        names = channel_names_of(self.dataset_json)
        unit = f" ({self.unit})" if self.unit else ""
        shown = [ShownVolume(name, volume, *window(volume, mask)) for name, volume in zip(names, inputs)]
        shown.append(ShownVolume(f"{self._target_name}{unit}", images[0], *window(images[0], mask)))
        draw_planes(shown, mask, case["data_properties"]["spacing"], figure)

    def read_result(self, case: str, output: Path) -> sitk.Image | list[sitk.Image]:
        """Read the map of a case; several where the network has several outputs."""
        *files, _ = self._files(output / case)
        images = [sitk.ReadImage(str(file)) for file in files]
        return images[0] if len(images) == 1 else images

    def _files(self, case: Path, outputs: int | None = None) -> list[Path]:
        """The images, numbered where there are several, and last the figure."""
        if outputs is None:
            outputs = TargetChannel.of_plans(self.plans_manager.plans, self.trainer_name).outputs
        ending = self.dataset_json["file_ending"]
        ending = float_ending(ending)
        names = [case.name] if outputs == 1 else [f"{case.name}_{number:04d}" for number in range(outputs)]
        return [case.parent / f"{name}{ending}" for name in names] + [case.parent / f"{case.name}.png"]

    def _source_of(self, case: dict) -> CaseToReconstruct | None:
        return None if case["ofile"] is None else self._sources.get(Path(case["ofile"]).name)

    def _inputs_and_mask(self, source: CaseToReconstruct) -> tuple[np.ndarray, np.ndarray]:
        reader = self.plans_manager.image_reader_writer_class()
        inputs, _ = reader.read_images([str(file) for file in source.images])
        if source.mask is None:
            return inputs, create_nonzero_mask(inputs)
        return inputs, inside_mask(reader.read_seg(str(source.mask))[0][0])


def cases_to_reconstruct(
    folder: str | Path, dataset_json: dict, target: TargetChannel, masks: str | Path | None
) -> list[CaseToReconstruct]:
    """Return the cases of a folder; channels go by the number in the name.

    Args:
        masks: folder of `<case>` + the dataset's file ending.

    Raises:
        XModalError: see `files_by_channel`; also for the target among the images, a number beyond, and a missing input.
    """
    names, ending = channel_names_of(dataset_json), dataset_json["file_ending"]
    cases = []
    for case, files in files_by_channel(folder, ending).items():
        if target.index in files:
            raise XModalError(
                f"{files[target.index]} has the number of the target ({names[target.index]}), which this model "
                "predicts: take it out of the folder."
            )
        for number in range(target.index):
            if number not in files:
                missing = Path(folder) / f"{case}_{number:04d}{ending}"
                raise XModalError(f"{missing} is missing: case {case} needs channel {number} ({names[number]}).")
        if max(files) > target.index:
            raise XModalError(
                f"{files[max(files)]} is one channel too many: the model reads {', '.join(names[: target.index])}."
            )
        mask = None if masks is None else Path(masks) / f"{case}{ending}"
        cases.append(CaseToReconstruct(case, [files[number] for number in range(target.index)], mask))
    return cases
