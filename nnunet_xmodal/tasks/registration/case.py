"""The files of a case that is registered: two images, and a mask, point or label that shows where the organ is."""

from dataclasses import dataclass
from pathlib import Path

from nnunet_xmodal.datasets.cases import cases_in_folder, files_by_channel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.registration.given_alignment import alignment_files
from nnunet_xmodal.tasks.registration.initial_transform import INITS
from nnunet_xmodal.tasks.registration.new_pair_errors import Known
from nnunet_xmodal.tasks.registration.options import RegistrationOptions

_VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
POINT_ENDINGS = (".csv", ".mrk.json")


@dataclass(frozen=True)
class RegistrationCase:
    """The files of a case.

    Attributes:
        fixed, moving: `<name>_0000`, `<name>_0001`, on grids of their own.
        roi: a rough mask, or a point, of the fixed image's organ.
        label: of the fixed image, for the networks that read it instead.
        init: files of a given start, see `given_alignment`; none for another start.
        known: what its errors are measured by.
    """

    name: str
    fixed: Path
    moving: Path
    roi: Path | None = None
    label: Path | None = None
    init: tuple[Path, ...] = ()
    known: Known = Known()


def cases_to_register(
    folder: str | Path, dataset_json: dict, options: RegistrationOptions, label_is_read: bool = False
) -> list[RegistrationCase]:
    """Return the cases of an images folder, by name.

    Args:
        label_is_read: a network reads the fixed label, so that `--labels` is more than a measure.

    Raises:
        XModalError: for a missing image, one too many, and for a case without its file in a folder that was given.
    """
    ending = dataset_json["file_ending"]

    def beside(of_folder: str | None, case: str, endings: tuple[str, ...], flag: str) -> Path | None:
        return _beside(of_folder, case, endings, flag) if of_folder else None

    cases = []
    for name, (fixed, moving) in _pairs(folder, dataset_json, options.moving).items():
        label = beside(options.labels, name, (ending,), "--labels")
        reference = alignment_files(options.reference, name, "--reference") if options.reference else ()
        endings = (ending, *_VOLUMES)
        cases.append(
            RegistrationCase(
                name,
                fixed,
                moving,
                roi=beside(options.roi, name, (ending, ".nii.gz", *POINT_ENDINGS), "--roi"),
                label=label if label_is_read else None,
                init=alignment_files(options.init, name, "--init") if options.init not in (None, *INITS) else (),
                known=Known(reference, label, beside(options.moving_labels, name, endings, "--moving_labels")),
            )
        )
    return cases


def _pairs(folder: str | Path, dataset_json: dict, moving_folder: str | None) -> dict[str, tuple[Path, Path]]:
    if moving_folder is None:
        for case in (cases := cases_in_folder(folder, dataset_json)):
            if len(case.images) != 2:
                raise XModalError(
                    f"{case.images[0]} has no second image: a case has a fixed image _0000 and a moving one _0001."
                )
        return {case.name: (case.images[0], case.images[1]) for case in cases}
    endings = (dataset_json["file_ending"], *_VOLUMES)
    pairs = {}
    for name, files in files_by_channel(folder, dataset_json["file_ending"]).items():
        if set(files) != {0}:
            raise XModalError(
                f"{files[max(files)]} is there although --moving {moving_folder} is the folder of moving images: leave "
                f"{name}_0000{dataset_json['file_ending']} alone there, or --moving out."
            )
        here = [Path(moving_folder) / f"{name}{number}{ending}" for number in ("_0001", "") for ending in endings]
        moving = next((file for file in here if file.is_file()), None)
        if moving is None:
            raise XModalError(
                f"--moving {moving_folder} holds no moving image of {name}: name it {name}_0001 or {name}, and "
                f"{', '.join(dict.fromkeys(endings))}."
            )
        pairs[name] = files[0], moving
    return pairs


def _beside(folder: str | Path, case: str, endings: tuple[str, ...], flag: str) -> Path:
    endings = tuple(dict.fromkeys(endings))
    files = [Path(folder) / f"{case}{ending}" for ending in endings]
    for file in files:
        if file.is_file():
            return file
    others = f" (or one that ends in {', '.join(endings[1:])})" if endings[1:] else ""
    raise XModalError(f"{files[0]}{others} is missing: {flag} needs a file for every case.")
