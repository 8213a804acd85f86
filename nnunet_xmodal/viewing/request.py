"""What can be asked to be looked at; the Python interface of `nnUNetXModal_view`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class ViewRequest:
    """Describe the cases to look at, and what of them.

    Attributes:
        cases: names, without channel and file ending.
        images: folder of `<case>_0000<ending>`, `<case>_0001<ending>`, … as nnU-Net has them.
        output: folder that gets `<case>.html`, one file each with everything in it.
        labels: folders of label maps `<case><ending>`, references and predictions, as `FOLDER` or `NAME=FOLDER`.
        probabilities: also show `<case>.npz`, which nnU-Net leaves beside a prediction with --save_probabilities.
        maps: folders of `<case>_<what>.nii.gz`: attention, Grad-CAM, uncertainty.
        dataset: name or ID, for channels' and labels' names; None looks for `dataset_json`.
        dataset_json: None looks in the folders of labels, and beside `images`.
        browser: open the first page.

    Raises:
        XModalError: for no case, and for one whose name is a path.
    """

    cases: Sequence[str]
    images: Path
    output: Path
    labels: Sequence[str] = ()
    probabilities: bool = False
    maps: Sequence[Path] = ()
    dataset: str | int | None = None
    dataset_json: Path | None = None
    browser: bool = True

    def __post_init__(self) -> None:
        if not self.cases:
            raise XModalError("there is no case to look at: name some, as in the names of their files.")
        for case in self.cases:
            if Path(case).name != case:
                raise XModalError(f"the case {case} is a path: give its name, and the folder of its images with -i.")
