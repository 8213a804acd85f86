"""Prediction within an organ: every case is cropped to a mask as it is read, and lies in the whole image at the end.

nnU-Net crops each case to its non-zero voxels, notes where it did, and puts labels and probabilities back by that note.
The crop to the organ comes before that one and adds to its note, so nnU-Net's way back is the way back from both:
background outside, the probability of background 1, with any reader, process, cascade or ensemble.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.checks import map_cases
from nnunet_xmodal.datasets.organ_mask import in_organ, mask_file, organ_on_grid
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.two_places import check_moved_alike
from nnunet_xmodal.geometry.organ_crop import box_around
from nnunet_xmodal.prediction.native_geometry import with_geometry
from nnunet_xmodal.prediction.turning import AS_STORED

Slices = tuple[slice, slice, slice]
"""A box, along the axes z, y, x of the array that nnU-Net's reader returns."""


@dataclass(frozen=True)
class OrganRoi:
    """The organ within which a prediction takes place.

    Attributes:
        masks: folder with one for every case, see `organ_mask.mask_file`.
        values: of the organ in them; all from 0.5 on where none are named.
        margin_mm: around it.
    """

    masks: Path
    values: tuple[int, ...] = ()
    margin_mm: float = 0.0


def organ_roi(
    masks: str | None, values: Sequence[int] | None, margin_mm: float | None, dataset_json: dict
) -> OrganRoi | None:
    """Read `--roi`, `--roi_label` and `--margin`; warn where they are not what the model was trained with.

    Args:
        margin_mm: None for that of the training.
        dataset_json: of the model; `"xmodal": {"roi": {"margin_mm": …}}` where it was trained on crops.

    Returns:
        None for whole images.

    Raises:
        XModalError: for a folder that does not exist, a negative margin, and the other two without a folder; for a
            dataset.json that names no margin.
    """
    trained = _margin_of_training(dataset_json)
    if masks is None:
        for flag, given in (("--roi_label", values), ("--margin", margin_mm)):
            if given is not None:
                raise XModalError(f"{flag} needs masks: give their folder with --roi.")
        if trained is not None:
            print(
                f"Warning: the model was trained on images cropped to an organ and {trained:g} mm around it: give its "
                "masks as --roi, unless these images are cropped already."
            )
        return None
    if not Path(masks).is_dir():
        raise XModalError(f"--roi {masks} is no folder: give one with a mask <case>.nii.gz for every case.")
    margin = (trained or 0.0) if margin_mm is None else margin_mm
    if not 0 <= margin < np.inf:
        raise XModalError(f"--margin takes millimetres from 0, got {margin:g}.")
    if trained is None:
        print("Warning: the model was trained on whole images, as far as its dataset.json tells, and --roi crops them.")
    elif margin != trained:
        print(f"Warning: the model was trained with a margin of {trained:g} mm, and --margin is {margin:g}.")
    return OrganRoi(Path(masks), tuple(values or ()), margin)


def _margin_of_training(dataset_json: dict) -> float | None:
    """In mm; None for whole images."""
    entry = dataset_json.get("xmodal", {}).get("roi")
    try:
        return None if entry is None else float(entry["margin_mm"])
    except (TypeError, KeyError, ValueError) as error:
        raise XModalError(f'"roi" of the model\'s dataset.json is {entry!r}: write {{"margin_mm": 20}}.') from error


def crop_to_organ(
    predictor: nnUNetPredictor, cases: list[Case], roi: OrganRoi, processes: int = 1, progress: bool = True
) -> None:
    """Let a predictor with a loaded model crop these cases, and no others, whenever it reads their files.

    Raises:
        XModalError: for the first case without a mask, and with one that cannot be read, is empty or lies beside the
            image; says how many other cases have faults.
    """
    find = _FindBox(roi, predictor.plans_manager, predictor.dataset_json)
    found = list(map_cases(find, cases, processes, progress, f"Checking {len(cases)} masks"))
    faults = [fault for fault in found if isinstance(fault, str)]
    if faults:
        others = f" ({len(faults) - 1} other masks have faults, too.)" if len(faults) > 1 else ""
        raise XModalError(faults[0] + others)
    boxes = {case.name: box for case, box in zip(cases, found)}
    ending = predictor.dataset_json["file_ending"]
    predictor.configuration_manager = CroppedConfiguration(predictor.configuration_manager.configuration, boxes, ending)


class _FindBox:
    """Case → its box, or a sentence; a class because workers need to pickle it."""

    def __init__(self, roi: OrganRoi, plans: PlansManager, dataset_json: dict) -> None:
        self.roi, self.plans, self.dataset_json = roi, plans, dataset_json

    def __call__(self, case: Case) -> Slices | str:
        try:
            file = mask_file(self.roi.masks, case.name, [self.dataset_json["file_ending"]])
            image, properties = self._read(case.images[0])
            grid = with_geometry(np.zeros(image.shape[1:], np.uint8), _as_read(properties))
            if grid.GetDimension() == 3 and ("sitk_stuff" in properties or "nibabel_stuff" in properties):
                check_moved_alike([case.images[0], file])
                mask = organ_on_grid(file, grid, self.roi.values, by_nibabel="nibabel_stuff" in properties)
            else:
                mask = self._of_the_same_voxels(file, image.shape[1:])
                mask.SetSpacing([float(side) for side in properties["spacing"][::-1]])
            box = box_around(mask, self.roi.margin_mm)
        except XModalError as error:  # returned, because the others are checked as well
            return str(error)
        z, y, x = (slice(first, first + side) for first, side in zip(box.start[::-1], box.size[::-1]))
        return z, y, x

    def _read(self, file: Path) -> tuple[np.ndarray, dict]:
        """By the model's reader, which may turn the axes."""
        try:
            return self.plans.image_reader_writer_class().read_images([str(file)])
        except Exception as error:  # readers raise what they like
            raise XModalError(f"{file} cannot be read: replace it by an intact file.") from error

    def _of_the_same_voxels(self, file: Path, shape: tuple[int, ...]) -> sitk.Image:
        """Read the mask of an image that has no place in space, such as PNG."""
        voxels, _ = read_image(file, self.dataset_json, is_label=True)
        sides = [tuple(side for side in array if side > 1) for array in (voxels.shape, shape)]
        if sides[0] != sides[1]:
            theirs, ours = ("×".join(map(str, numbers)) for numbers in sides)
            raise XModalError(
                f"{file} has {theirs} pixels and the image {ours}: they must agree where files have no place in space."
            )
        return sitk.GetImageFromArray(in_organ(voxels.reshape(shape), file, self.roi.values))


def _as_read(properties: dict) -> dict:
    """Without the way back to the file's axes, which a reader has turned: boxes are of the array that it returns."""
    properties = {key: value for key, value in properties.items() if key != AS_STORED}
    geometry = properties.get("sitk_stuff")
    if geometry is None:
        return properties
    turned = {key: value for key, value in geometry.items() if key != "original_orientation"}
    return {**properties, "sitk_stuff": turned}


class CroppedConfiguration(ConfigurationManager):
    """A configuration whose preprocessor crops cases to their boxes before anything else.

    nnU-Net asks the configuration for the class of its preprocessor in every process that reads cases.

    Attributes:
        boxes: of cases by name.
        file_ending: of the images.
    """

    def __init__(self, configuration: dict, boxes: Mapping[str, Slices], file_ending: str) -> None:
        super().__init__(configuration)
        self.boxes, self.file_ending = boxes, file_ending

    def around(self, configuration: ConfigurationManager) -> "CroppedConfiguration":
        """Return another configuration with the same boxes."""
        return CroppedConfiguration(configuration.configuration, self.boxes, self.file_ending)

    @property
    def preprocessor_class(self) -> type:
        """Return the class that crops cases before it preprocesses them."""
        boxes, ending = self.boxes, self.file_ending

        base: Any = super().preprocessor_class

        class CroppingPreprocessor(base):
            def run_case(
                self,
                image_files: list[str],
                seg_file: str | None,
                plans_manager: PlansManager,
                configuration_manager: ConfigurationManager,
                dataset_json: dict | str,
            ) -> tuple[np.ndarray, np.ndarray | None, dict]:
                """As nnU-Net's, of a box of the files; what is noted is about the whole image."""
                box = boxes[Path(image_files[0]).name[: -len(f"_0000{ending}")]]
                reader = plans_manager.image_reader_writer_class()
                image, properties = reader.read_images(image_files)
                seg = None if seg_file is None else reader.read_seg(seg_file)[0]
                cropped = (slice(None), *box)
                data, seg, properties = self.run_case_npy(
                    image[cropped],
                    None if seg is None else seg[cropped],
                    properties,
                    plans_manager,
                    configuration_manager,
                    dataset_json,
                )
                order = plans_manager.transpose_forward
                properties["shape_before_cropping"] = tuple(image.shape[1:][axis] for axis in order)
                properties["bbox_used_for_cropping"] = [
                    [box[axis].start + first, box[axis].start + end]
                    for axis, (first, end) in zip(order, properties["bbox_used_for_cropping"])
                ]
                return data, seg, properties

        return CroppingPreprocessor
