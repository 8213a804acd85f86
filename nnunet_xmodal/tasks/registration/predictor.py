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
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from tqdm import tqdm

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.evaluation.figures.checkerboard import draw_checkerboards
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.two_places import check_moved_alike, two_places
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.files.volumes import check_not_constant, check_same_unit, read_volume
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.geometry.volume_grid import any_inside, lattice, overlap, to_index
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.finished import remaining_cases
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.model import find_model
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.trained_axes import NEVER
from nnunet_xmodal.tasks.registration import grad_cam
from nnunet_xmodal.tasks.registration.case import POINT_ENDINGS, RegistrationCase, cases_to_register
from nnunet_xmodal.tasks.registration.grid import OUTSIDE, GridCutter, RegistrationGrid
from nnunet_xmodal.tasks.registration.grid_centre import GridCentre, grid_centre, organ_points
from nnunet_xmodal.tasks.registration.initial_transform import initial_transform
from nnunet_xmodal.tasks.registration.options import RegistrationOptions
from nnunet_xmodal.tasks.registration.steps import MutualInformationStep, NetworkStep, RegistrationStep
from nnunet_xmodal.tasks.registration.table import RegistrationTable

WRITTEN = (".tfm", "_registered.nii.gz", "_checkerboard.png")
WRITTEN_HEAT = tuple(f"_gradcam_{side}.nii.gz" for side in grad_cam.SIDES)


@dataclass(frozen=True)
class Start:
    """The start of a case: fixed → moving point in mm, and the point of the fixed image around which the grid lies."""

    initial: sitk.Euler3DTransform
    centre: GridCentre


@dataclass(frozen=True)
class Registration:
    """The result of a case.

    Attributes:
        transform: fixed → moving point in mm, about the centre of the last step's grid.
        first_grid: what the first step saw.
        seconds_network: of all networks.
    """

    transform: sitk.Euler3DTransform
    first_grid: RegistrationGrid
    seconds_network: float


class RegistrationPredictor(GuardedPredictor):
    """Predictor that writes CASE.tfm, CASE_registered.nii.gz, CASE_checkerboard.png and a row of registration.csv."""

    options_class = RegistrationOptions
    options = RegistrationOptions()
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
        return getattr(recursive_find_trainer_class_by_name(self.trainer_name), attribute, False)

    def predict_folder(self, request: PredictionRequest) -> None:
        """Register every case.

        Raises:
            XModalError: before anything is written, for flags that do not fit the model, a second stage that is not
                there, and cases that cannot be registered, the first of which is described.
        """
        options, output, init = self.options, Path(request.output), self.options.init or "none"
        if request.save_probabilities:
            raise XModalError(f"the model of {self.trainer_name} finds transforms: there are no probabilities to save.")
        if output.resolve() == Path(request.images).resolve():
            raise XModalError(f"-o {output} is the folder of the input images: write to another one.")
        steps = self._steps(request)
        if options.grad_cam:
            grad_cam.captum_attr()
        found = cases_to_register(request.images, self.dataset_json, options.roi, options.labels)
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
            began = perf_counter()
            fixed, moving, label = self._images(case)
            try:
                registered = register(fixed, moving, label, start, steps)
            except XModalError as error:
                raise XModalError(f"{case.name}: {error}") from error
            _write(case, fixed, moving, start, registered.transform, output)
            if options.grad_cam:
                first = steps[0]
                assert isinstance(first, NetworkStep), "what refines comes after the networks"
                _write_heat(case, fixed, first, registered.first_grid, output)
            described = {"init": init, "steps": " + ".join(step.name for step in steps)}
            seconds = {"seconds_network": registered.seconds_network, "seconds": perf_counter() - began}
            table.add({"case": case.name, **_numbers(registered.transform, start), **described, **seconds})
        print(f"Transforms of {len(cases)} cases are in {output}; {table.file.name} describes them.")

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
        if self.options.labels and not reading:
            raise XModalError(
                f"--labels does not apply to models of {self.trainer_name}, which read the fixed image itself: give "
                "masks around which to cut with --roi."
            )
        if self.options.refine:
            steps.append(MutualInformationStep(steps[0].cut))
        return steps

    def as_step(self) -> NetworkStep:
        """Return all folds of the model as one step."""
        cut = GridCutter(self.plans_manager, self.configuration_manager, self.dataset_json)
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
        kind = getattr(recursive_find_trainer_class_by_name(trainer), "predictor_class", None)
        if kind is None or not issubclass(kind, RegistrationPredictor):
            raise XModalError(f"--stage2 {trainer} is no trainer of registration networks: name one that is.")
        on_device = self.perform_everything_on_device  # nnU-Net's default prints that a CPU is none
        second = kind(device=self.device, perform_everything_on_device=on_device, allow_tqdm=self.allow_tqdm)
        second.initialize_from_trained_model_folder(str(folder), list(request.folds), request.checkpoint)
        return second

    def _checked(self, cases: Sequence[RegistrationCase], init: str, progress: bool) -> list[Start]:
        starts, faults = [], []
        for case in tqdm(cases, desc=f"Checking {len(cases)} cases", disable=not progress):
            try:
                starts.append(self._start(case, init))
            except XModalError as error:  # the others are checked as well
                faults.append(str(error))
        if faults:
            raise XModalError(first_of(faults))
        return starts

    def _start(self, case: RegistrationCase, init: str) -> Start:
        fixed, moving, _ = self._images(case)
        check_same_unit(fixed, moving, case.fixed, case.moving)
        self._check_places(case)
        initial = initial_transform(init, fixed, moving)
        matrix = physical_matrix(initial)
        way_out = "begin with centre on centre, --init geometry" if init == "none" else "try --init none"
        if not overlap(fixed, moving, matrix):
            raise XModalError(f"{case.moving} does not overlap with {case.fixed} in physical space: {way_out}.")
        centre = grid_centre(case, fixed, self.dataset_json)
        half = np.multiply(self.configuration_manager.patch_size, self.configuration_manager.spacing)[::-1] / 2
        place = np.eye(4)
        place[:3, :3], place[:3, 3] = np.reshape(fixed.GetDirection(), (3, 3)), centre.point
        points = lattice(place, -half, half)
        if not any_inside(moving, points @ matrix[:3, :3].T + matrix[:3, 3]):
            raise XModalError(
                f"{case.moving} does not reach into the grid around {centre.point.round(1).tolist()} mm, the centre of "
                f"the {centre.source} of {case.fixed}: {way_out}, or show where the organ is with --roi."
            )
        if case.label is not None:
            offsets = (organ_points(case.label, self.dataset_json) - centre.point) @ place[:3, :3]
            if not (np.abs(offsets) <= half).all(-1).any():
                raise XModalError(
                    f"{case.label} does not reach into the grid around {centre.point.round(1).tolist()} mm, the "
                    f"{centre.source} of {case.roi}: it lies elsewhere than the label."
                )
        for image, file in ((fixed, case.fixed), (moving, case.moving)):
            check_not_constant(image, file)
        return Start(initial, centre)

    def _check_places(self, case: RegistrationCase) -> None:
        """A mask belongs to the fixed image, whoever reads the two; where the moving image begins is said at least."""
        masks = [file for file in (case.roi, case.label) if file and not file.name.endswith(POINT_ENDINGS)]
        check_moved_alike([case.fixed, *masks])
        for places in (two_places(case.fixed), two_places(case.moving)):
            if places is not None:
                remark(f"{places.file} lies at two places: {places.described()}; transforms are for ITK's.")

    def _images(self, case: RegistrationCase) -> tuple[sitk.Image, sitk.Image, sitk.Image | None]:
        label = None if case.label is None else read_volume(case.label, self.dataset_json)
        return read_volume(case.fixed, self.dataset_json), read_volume(case.moving, self.dataset_json), label


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
    transform, grids, seconds = start.initial, [], 0.0
    for step in steps:
        grid = step.cut(fixed, moving, transform, start.centre.point, label if step.fixed_is_label else None)
        found = step(grid)
        transform = grid.chain.physical_transform(found.matrix, transform)
        grids.append(grid)
        seconds += found.seconds if isinstance(step, NetworkStep) else 0.0
    return Registration(transform, grids[0], seconds)


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

    def displacement(matrix: np.ndarray) -> float:
        return float(np.linalg.norm(matrix[:3, :3] @ centre + matrix[:3, 3] - centre))

    def angle(matrix: np.ndarray) -> float:
        return float(rigid_transform.rotation_angle(torch.from_numpy(matrix)))

    found = np.linalg.inv(initial) @ whole
    angles = np.rad2deg([transform.GetAngleX(), transform.GetAngleY(), transform.GetAngleZ()])
    return {
        **dict(zip(("tx", "ty", "tz"), transform.GetTranslation())),
        **dict(zip(("ax", "ay", "az"), map(float, angles))),
        "rotation_angle": angle(whole),
        "centre_displacement": displacement(whole),
        "found_angle": angle(found),
        "found_displacement": displacement(found),
        **dict(zip(("centre_x", "centre_y", "centre_z"), map(float, centre))),
        "centre_from": start.centre.source,
    }
