"""Prediction along the axes that a model was trained along: cases are turned as they are read, results turned back.

nnU-Net goes by the order of voxels and never by the header. It asks the plans for the class that reads and writes
files, in every process that does so; plans that answer with a class that turns are all there is to it.
"""

import numpy as np
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.stored_axes import place_of
from nnunet_xmodal.geometry.orientation import code_of, turned, turned_numbers, turned_place

AS_STORED = "as_stored"
"""In what a reader notes about a case that it has turned: what it would have noted otherwise, and `axes`."""


class TurningPlans(PlansManager):
    """Plans whose reader turns cases to an orientation.

    Attributes:
        axes: code of the orientation.
    """

    def __init__(self, plans: dict, axes: str) -> None:
        super().__init__(plans)
        self.axes = axes

    @property
    def image_reader_writer_class(self) -> type[BaseReaderWriter]:
        """Return the class that reads and turns."""
        return turning_reader(super().image_reader_writer_class, self.axes)


def turn_as_trained(predictor: nnUNetPredictor, axes: str) -> None:
    """Let a predictor with a loaded model read cases along the axes given, and write results along the cases' own."""
    predictor.plans_manager = TurningPlans(predictor.plans_manager.plans, axes)


def like(plans: PlansManager, content: dict) -> PlansManager:
    """Return other plans that read files as these do."""
    return TurningPlans(content, plans.axes) if isinstance(plans, TurningPlans) else PlansManager(content)


def turns_itself(reader: type[BaseReaderWriter] | str) -> bool:
    """Return whether a reader of nnU-Net's turns cases by itself: its `…WithReorient`."""
    name = reader if isinstance(reader, str) else reader.__name__
    return name.endswith("WithReorient")


def turning_reader(base: type[BaseReaderWriter], axes: str) -> type[BaseReaderWriter]:
    """Return a reader of volumes that turns them; 2D images and formats without axes are read as they are."""
    if turns_itself(base):
        return base

    class TurningReader(base):
        def read_images(self, image_fnames: list[str] | tuple[str, ...]) -> tuple[np.ndarray, dict]:
            array, properties = super().read_images(image_fnames)
            return _turned_case(array, properties, axes)

        def write_seg(self, seg: np.ndarray, output_fname: str, properties: dict) -> None:
            seg, properties = as_stored(seg, properties)
            super().write_seg(seg, output_fname, properties)

    return TurningReader


def _turned_case(array: np.ndarray, properties: dict, axes: str) -> tuple[np.ndarray, dict]:
    place = place_of(properties)
    if place is None:
        return array, properties
    stored = code_of(place["direction"])
    if stored == axes:
        return array, properties
    new_place = turned_place(array.shape[:-4:-1], **place, wanted=axes)
    spacing = list(turned_numbers(properties["spacing"][::-1], stored, axes)[::-1])
    noted = {key: properties[key] for key in ("sitk_stuff", "nibabel_stuff", "spacing") if key in properties}
    turned_properties = {key: value for key, value in properties.items() if key != "nibabel_stuff"}
    turned_properties |= {
        "sitk_stuff": new_place,
        "spacing": spacing,
        AS_STORED: {**noted, "axes": stored, "turned_to": axes},
    }
    return turned(array, stored, axes), turned_properties


def as_stored(array: np.ndarray, properties: dict) -> tuple[np.ndarray, dict]:
    """Undo what a turning reader has done.

    Args:
        array: `(..., z, y, x)` on the grid that it returned.
        properties: as it noted them.

    Returns:
        Both as if the case had never been turned; what the preprocessor has noted about its cropping stays.
    """
    noted = properties.get(AS_STORED)
    if noted is None:
        return array, properties
    own = {key: value for key, value in properties.items() if key not in (AS_STORED, "sitk_stuff")}
    own |= {key: value for key, value in noted.items() if key not in ("axes", "turned_to")}
    return turned(np.asarray(array), noted["turned_to"], noted["axes"]), own
