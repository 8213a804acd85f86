"""Write the files of one prepared case."""

from collections.abc import Mapping
from dataclasses import dataclass

import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.complete import seems_complete
from nnunet_xmodal.files.transform_writer import write_transform
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.preparation.case_task import CaseTask
from nnunet_xmodal.preparation.dataset_json import FILE_ENDING
from nnunet_xmodal.preparation.figure import draw_case
from nnunet_xmodal.preparation.record import FOLDER


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case and what they will hold.

    Attributes:
        split: `Tr` or `Ts`.
        images: channel → image, on one grid.
        numbers: channel → its number.
        label: on the same grid, or None.
        transforms: file → transform.
    """

    case: str
    split: str
    images: Mapping[str, sitk.Image]
    numbers: Mapping[str, int]
    label: sitk.Image | None
    transforms: Mapping[str, sitk.Transform]

    @property
    def volumes(self) -> dict[str, sitk.Image]:
        """Return the images and the label by their files, relative to the dataset's folder."""
        volumes = {
            f"images{self.split}/{self.case}_{self.numbers[name]:04d}{FILE_ENDING}": image
            for name, image in self.images.items()
        }
        if self.label is not None:
            volumes[f"labels{self.split}/{self.case}{FILE_ENDING}"] = self.label
        return volumes

    @property
    def picture(self) -> str:
        """Return the file of the figure, relative to the dataset's folder."""
        return f"{FOLDER}/figures/{self.case}.png"

    @property
    def names(self) -> list[str]:
        """Return all files, relative to the dataset's folder."""
        return [*self.volumes, *self.transforms, self.picture]


def check_replaceable(files: CaseFiles, task: CaseTask) -> None:
    """Check that no file is in the way.

    Raises:
        XModalError: for a file that exists and that no record knows, unless it may be overwritten.
    """
    known = task.previous.files if task.previous else []
    for name in files.names:
        file = task.dataset / name
        if name not in known and file.exists() and not task.overwrite:
            raise XModalError(f"{file} exists and no record knows it: move it away, or give --overwrite.")


def write_files(files: CaseFiles, task: CaseTask) -> None:
    """Write the files of a case; those that a complete attempt has left stay."""
    folder = task.dataset
    kept = {name for name in files.names if task.incomplete is not None and seems_complete(folder / name)}
    for name in files.names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    for name, image in files.volumes.items():
        if name not in kept:
            write_volume(image, folder / name)
    for name, transform in files.transforms.items():
        if name not in kept:
            write_transform(transform, folder / name)
    draw_case(
        {name: sitk.GetArrayViewFromImage(image) for name, image in files.images.items()},
        None if files.label is None else sitk.GetArrayViewFromImage(files.label),
        next(iter(files.images.values())).GetSpacing()[::-1],
        folder / files.picture,
    )
