"""The files of a case that is registered: two images, and a mask, point or label that shows where the organ is."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.datasets.checks import cases_in_folder
from nnunet_xmodal.errors import XModalError

POINT_ENDINGS = (".csv", ".mrk.json")


@dataclass(frozen=True)
class RegistrationCase:
    """The files of a case.

    Attributes:
        fixed, moving: `<name>_0000`, `<name>_0001`, on grids of their own.
        roi: a rough mask, or a point, of the fixed image's organ.
        label: of the fixed image, for the networks that read it instead.
    """

    name: str
    fixed: Path
    moving: Path
    roi: Path | None = None
    label: Path | None = None


def cases_to_register(
    folder: str | Path, dataset_json: dict, rois: str | Path | None = None, labels: str | Path | None = None
) -> list[RegistrationCase]:
    """Return the cases of an images folder, by name.

    Raises:
        XModalError: for a missing image, one too many, and for a case without its region of interest or label in a
            folder that was given.
    """
    ending = dataset_json["file_ending"]
    cases = []
    for case in cases_in_folder(folder, dataset_json):
        if len(case.images) != 2:
            raise XModalError(
                f"{case.images[0]} has no second image: a case has a fixed image _0000 and a moving one _0001."
            )
        fixed, moving = case.images
        cases.append(
            RegistrationCase(
                case.name,
                fixed,
                moving,
                roi=_beside(rois, case.name, (ending, ".nii.gz", *POINT_ENDINGS), "--roi") if rois else None,
                label=_beside(labels, case.name, (ending,), "--labels") if labels else None,
            )
        )
    return cases


def _beside(folder: str | Path, case: str, endings: tuple[str, ...], flag: str) -> Path:
    endings = tuple(dict.fromkeys(endings))
    files = [Path(folder) / f"{case}{ending}" for ending in endings]
    for file in files:
        if file.is_file():
            return file
    others = f" (or one that ends in {', '.join(endings[1:])})" if endings[1:] else ""
    raise XModalError(f"{files[0]}{others} is missing: {flag} needs a file for every case.")
