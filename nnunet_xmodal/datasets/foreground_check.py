"""Label maps of which not all are empty: nnU-Net plans by the intensities of labelled voxels."""

from collections.abc import Sequence

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.files.labels import ignore_label, inside


def check_some_foreground(cases: Sequence[Case], dataset_json: dict) -> None:
    """Read label maps until one shows something.

    Args:
        cases: those without a label map are passed over.

    Raises:
        XModalError: where no label map holds a voxel that is neither background nor ignored.
    """
    labelled = [case.label for case in cases if case.label is not None]
    ignore = ignore_label(dataset_json)
    for file in labelled:
        if inside(read_image(file, dataset_json, is_label=True)[0], ignore).any():
            return
    but = "background and the ignore label" if ignore is not None else "background"
    raise XModalError(
        f"none of the {len(labelled)} label maps, for example {labelled[0]}, holds anything but {but}, and "
        "nnU-Net plans by the intensities of labelled voxels: give the label maps with the structures."
    )
