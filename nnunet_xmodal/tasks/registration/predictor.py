"""Rigid transforms between two images that lie anywhere, as networks find them.

A case is registered in steps: the networks of a model, those of a second stage, mutual information. Before each of them
the moving image *as it is on disk* is resampled once onto the fixed image with what is known so far, beginning with the
initial transform; what the step finds on its grid joins that transform in physical space (`GridChain`). So there is no
interpolation of an interpolated image, however many steps there are, nor for the image that is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
import SimpleITK as sitk
from tqdm import tqdm

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.evaluation.figures.checkerboard import draw_checkerboards
from nnunet_xmodal.files.folders import check_apart
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.trusted_names import trainer_called
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.files.volumes import read_volume
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.geometry.volume_grid import to_index
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.attributions import captum_attr
from nnunet_xmodal.prediction.finished import remaining_cases
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.model import find_model
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.trained_axes import NEVER
from nnunet_xmodal.tasks.registration import grad_cam
from nnunet_xmodal.tasks.registration.case import RegistrationCase, cases_to_register
from nnunet_xmodal.tasks.registration.doubts import angle, displacement, doubts
from nnunet_xmodal.tasks.registration.grid import OUTSIDE, GridCutter, RegistrationGrid
from nnunet_xmodal.tasks.registration.initial_transform import check_init
from nnunet_xmodal.tasks.registration.new_pair_errors import PairErrors
from nnunet_xmodal.tasks.registration.options import RegistrationOptions
from nnunet_xmodal.tasks.registration.start import Start, StartFinder
from nnunet_xmodal.tasks.registration.steps import SHIFTS, MutualInformationStep, NetworkStep, RegistrationStep
from nnunet_xmodal.tasks.registration.table import RegistrationTable

WRITTEN = (".tfm", "_registered.nii.gz", "_checkerboard.png")
WRITTEN_HEAT = tuple(f"_gradcam_{side}.nii.gz" for side in grad_cam.SIDES)


@dataclass(frozen=True)
class Registration:
    """The result of a case.

    Attributes:
        transform: fixed → moving point in mm, about the centre of the last step's grid.
        first_grid: what the first step saw.
        seconds_network: of all networks.
        steps: their names and what they had to say.
        disagreement: in mm, the largest of a step: a second stage is at one with itself where the first has failed.
    """

    transform: sitk.Euler3DTransform
    first_grid: RegistrationGrid
    seconds_network: float
    steps: tuple[str, ...]
    disagreement: float


class RegistrationPredictor(GuardedPredictor):
    """Predictor that writes CASE.tfm, CASE_registered.nii.gz, CASE_checkerboard.png and a row of registration.csv."""

    options_class = RegistrationOptions
    options = RegistrationOptions()
    on_one_grid = False
    turns = NEVER  # transforms are in patient space

    @property
    def fixed_is_label(self) -> bool:
        """Return whether the model's trainer says that its networks read a label as their fixed image."""
        return self._of_trainer("fixed_is_label")

    @property
    def turns_about_corner(self) -> bool:
        """Return whether the networks' six numbers turn about the grid's corner; see `turning_point`."""
        return self._of_trainer("turns_about_corner")

    def _of_trainer(self, attribute: str) -> bool:
        return getattr(trainer_called(self.trainer_name), attribute, False)

    def predict_folder(self, request: PredictionRequest) -> None:
        """Register every case.

        Raises:
            XModalError: before anything is written, for flags that do not fit the model, a second stage that is not
                there, and cases that cannot be registered, the first of which is described.
        """
        options, output, init = self.options, Path(request.output), self.options.init or "none"
        if request.save_probabilities:
            raise XModalError(f"the model of {self.trainer_name} finds transforms: there are no probabilities to save.")
        check_apart(output, request.folders_read)
        steps = self._steps(request)
        if options.grad_cam:
            captum_attr("--grad_cam")
        check_init(init)
        reads_labels = any(step.fixed_is_label for step in steps)
        found = cases_to_register(request.images, self.dataset_json, options, reads_labels)
        cases = list(request.of_this_part(found))
        table = RegistrationTable.of_folder(output, request.part)
        if request.continue_prediction:
            endings = WRITTEN + (WRITTEN_HEAT if options.grad_cam else ())
            listed = [case for case in cases if case.name in table.rows]
            left = remaining_cases(listed, lambda case: [output / f"{case.name}{ending}" for ending in endings])
            cases = [case for case in cases if case in left or case not in listed]
        starts = self._checked(cases, init, request.progress)
        output.mkdir(parents=True, exist_ok=True)
        for case, start in tqdm(zip(cases, starts), total=len(cases), disable=not request.progress):
            table.add({"init": init, **self._register(case, start, steps, output)})
        print(f"Transforms of {len(cases)} cases are in {output}; {table.file.name} describes them.")

    def _register(
        self, case: RegistrationCase, start: Start, steps: Sequence[RegistrationStep], output: Path
    ) -> dict[str, str | float]:
        """Write the files of a case and return its row of the table."""
        began = perf_counter()
        fixed, moving, label = self._images(case)
        try:
            registered = register(fixed, moving, label, start, steps)
        except XModalError as error:
            raise XModalError(f"{case.name}: {error}") from error
        _write(case, fixed, moving, start, registered.transform, output)
        if self.options.grad_cam:
            first = steps[0]
            assert isinstance(first, NetworkStep), "what refines comes after the networks"
            _write_heat(case, fixed, first, registered.first_grid, output)
        return {
            "case": case.name,
            **_numbers(registered.transform, start),
            "steps": " + ".join(registered.steps),
            **PairErrors(case.known, self.dataset_json).of(start.initial, registered.transform),
            **self._doubts(registered, start),
            "seconds_network": registered.seconds_network,
            "seconds": perf_counter() - began,
        }

    def read_result(self, case: str, output: Path) -> sitk.Euler3DTransform:
        """Read the transform of a case: fixed → moving point in physical mm."""
        return sitk.Euler3DTransform(sitk.ReadTransform(str(output / f"{case}{WRITTEN[0]}")))

    def _doubts(self, registered: "Registration", start: Start) -> dict[str, str | float]:
        reasons = doubts(
            registered.transform, start, registered.first_grid, registered.disagreement, self.plans_manager.plans
        )
        return {"disagreement": registered.disagreement, "warning": "; ".join(reasons)}

    def _steps(self, request: PredictionRequest) -> list[RegistrationStep]:
        models = [self]
        if self.options.stage2:
            models.append(self._second_stage(request, self.options.stage2))
        steps: list[RegistrationStep] = [model.as_step() for model in models]
        reading = [step.name for step in steps if step.fixed_is_label]
        if reading and not self.options.labels:
            raise XModalError(
                f"models of {reading[0]} read the label of the fixed image in its place: give the folder of "
                f"<case>{self.dataset_json['file_ending']} with --labels."
            )
        if self.options.labels and not (reading or self.options.reference or self.options.moving_labels):
            raise XModalError(
                f"--labels does not apply to models of {self.trainer_name}, which read the fixed image itself: give "
                "masks around which to cut with --roi, or what to measure them against with --moving_labels or "
                "--reference."
            )
        if self.options.moving_labels and not self.options.labels:
            raise XModalError("--moving_labels are compared with the labels of the fixed images: give --labels, too.")
        if self.options.refine:
            steps.append(MutualInformationStep(steps[0].cut))
        return steps

    def as_step(self) -> NetworkStep:
        """Return all folds of the model as one step."""
        cut = GridCutter(self.plans_manager, self.configuration_manager, self.dataset_json, SHIFTS)
        network = unwrapped(self.network)  # compiling takes longer than many cases
        return NetworkStep(
            self.trainer_name,
            cut,
            network,
            self.list_of_parameters,
            self.device,
            self.fixed_is_label,
            self.turns_about_corner,
        )

    def _second_stage(self, request: PredictionRequest, trainer: str) -> "RegistrationPredictor":
        folder = find_model(replace(request, trainer=trainer))
        kind = getattr(trainer_called(trainer), "predictor_class", None)
        if kind is None or not issubclass(kind, RegistrationPredictor):
            raise XModalError(f"--stage2 {trainer} is no trainer of registration networks: name one that is.")
        on_device = self.perform_everything_on_device  # nnU-Net's default prints that a CPU is none
        second = kind(device=self.device, perform_everything_on_device=on_device, allow_tqdm=self.allow_tqdm)
        second.initialize_from_trained_model_folder(str(folder), list(request.folds), request.checkpoint)
        return second

    def _checked(self, cases: Sequence[RegistrationCase], init: str, progress: bool) -> list[Start]:
        start_of, starts, faults = StartFinder(init, self.configuration_manager, self.dataset_json), [], []
        for case in tqdm(cases, desc=f"Checking {len(cases)} cases", disable=not progress):
            try:
                starts.append(start_of(case))
                PairErrors(case.known, self.dataset_json)
            except XModalError as error:  # the others are checked as well
                faults.append(str(error))
        if faults:
            raise XModalError(first_of(faults))
        return starts

    def _images(self, case: RegistrationCase) -> tuple[sitk.Image, sitk.Image, sitk.Image | None]:
        label = None if case.label is None else read_volume(case.label)
        return read_volume(case.fixed), read_volume(case.moving), label


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    label: sitk.Image | None,
    start: Start,
    steps: Sequence[RegistrationStep],
) -> Registration:
    """Take one step after the other, each from the original moving image.

    Raises:
        XModalError: see the steps.
    """
    transform, grids, seconds, told, disagreement = start.initial, [], 0.0, [], 0.0
    for step in steps:
        grid = step.cut(fixed, moving, transform, start.centre.point, label if step.fixed_is_label else None)
        found = step(grid)
        transform = grid.chain.physical_transform(found.matrix, transform)
        grids.append(grid)
        told.append(f"{step.name} ({found.note})" if found.note else step.name)
        if isinstance(step, NetworkStep):
            seconds, disagreement = seconds + found.seconds, max(disagreement, found.disagreement)
    return Registration(transform, grids[0], seconds, tuple(told), disagreement)


def _write(
    case: RegistrationCase,
    fixed: sitk.Image,
    moving: sitk.Image,
    start: Start,
    transform: sitk.Euler3DTransform,
    output: Path,
) -> None:
    before, after = (sitk.Resample(moving, fixed, t, sitk.sitkLinear, OUTSIDE) for t in (start.initial, transform))
    tfm, image, figure = (output / f"{case.name}{ending}" for ending in WRITTEN)
    voxel = np.clip(to_index(fixed, start.centre.point).round().astype(int), 0, np.array(fixed.GetSize()) - 1)
    draw_checkerboards(fixed, before, after, voxel[::-1].tolist(), figure)
    write_volume(after, image, compress=True)
    write_transform(transform, tfm)


def _write_heat(
    case: RegistrationCase, fixed: sitk.Image, step: NetworkStep, grid: RegistrationGrid, output: Path
) -> None:
    heat = grad_cam.attention_heat(step, grid)
    for side, ending in zip(grad_cam.SIDES, WRITTEN_HEAT):
        write_volume(grad_cam.on_image(heat[side], grid.chain, fixed), output / f"{case.name}{ending}", compress=True)


def _numbers(transform: sitk.Euler3DTransform, start: Start) -> dict[str, str | float]:
    centre = np.array(transform.GetCenter())
    whole, initial = physical_matrix(transform), physical_matrix(start.initial)
    found = np.linalg.inv(initial) @ whole
    angles = np.rad2deg([transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ()])
    return {
        **dict(zip(("tx", "ty", "tz"), transform.GetTranslation())),
        **dict(zip(("ax", "ay", "az"), map(float, angles))),
        "rotation_angle": angle(whole),
        "centre_displacement": displacement(whole, transform),
        "found_angle": angle(found),
        "found_displacement": displacement(found, transform),
        **dict(zip(("centre_x", "centre_y", "centre_z"), map(float, centre))),
        "centre_from": start.centre.source,
    }
