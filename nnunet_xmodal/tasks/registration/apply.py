"""`nnUNetXModal_apply`: labels and other volumes of one image of a pair, in the space of the other one.

A transform of `nnUNetXModal_predict` maps points of the fixed image to the moving one. So it brings volumes of the
moving image onto the fixed one's grid, and its inverse those of the fixed image, targets that were drawn in MR for
example, onto the grid of the moving one.
"""

from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.folders import check_apart, check_input_folder, check_output_folder
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.volume_writer import write_volume

VOLUMES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".nhdr")
_DIMENSIONS = 3


@dataclass(frozen=True)
class ApplyRequest:
    """What `nnUNetXModal_apply` is asked to do.

    Attributes:
        volumes: folder of `<case>.<ending>` and `<case>_<anything>.<ending>`, in the space of the moving images.
        transforms: folder of `<case>.tfm`.
        onto: folder of the images onto whose grids they go, `<case>_0000` or `<case>`: the fixed ones.
        output: folder, made if it does not exist.
        inverse: volumes are of the fixed images and go onto the grids of the moving ones, `<case>_0001` or `<case>`.
        nearest: take the nearest voxel, for label maps; else interpolate linearly.
    """

    volumes: Path
    transforms: Path
    onto: Path
    output: Path
    inverse: bool = False
    nearest: bool = False


@dataclass(frozen=True)
class _Job:
    volume: Path
    transform: Path
    grid: Path
    output: Path


def apply_folder(request: ApplyRequest) -> list[Path]:
    """Resample every volume once and write it as `<its name>.nii.gz`, in its own pixel type, 0 where it does not reach.

    Returns:
        The files that were written.

    Raises:
        XModalError: before anything is written, for a volume without transform or grid, and for files that cannot be
            read, the first of which is described.
    """
    check_output_folder(request.output)
    jobs, faults = _jobs(request), []
    for job in jobs:  # read first, so that nothing is written before all is known to be sound
        try:
            _read(job, request)
        except XModalError as error:
            faults.append(str(error))
    if faults:
        raise XModalError(first_of(faults))
    how = sitk.sitkNearestNeighbor if request.nearest else sitk.sitkLinear
    with claimed(request.output):
        for job in jobs:
            volume, grid, transform = _read(job, request)
            write_volume(sitk.Resample(volume, grid, transform, how, 0.0), job.output, compress=True)
    return [job.output for job in jobs]


def _jobs(request: ApplyRequest) -> list[_Job]:
    for folder in (request.volumes, request.transforms, request.onto):
        check_input_folder(folder)
    check_apart(request.output, {"-i": request.volumes, "-t": request.transforms, "--onto": request.onto})
    transforms = {file.name.removesuffix(".tfm"): file for file in sorted(request.transforms.glob("*.tfm"))}
    if not transforms:
        raise XModalError(f"the folder {request.transforms} holds no transforms, <case>.tfm of nnUNetXModal_predict.")
    jobs = []
    for file in sorted(request.volumes.iterdir()):
        ending = next((ending for ending in VOLUMES if file.name.endswith(ending)), None)
        if ending is None:
            if file.name.lower().endswith(VOLUMES):
                raise XModalError(f"{file} ends in capitals, which is passed over elsewhere: rename it.")
            continue
        name = file.name.removesuffix(ending)
        cases = [case for case in transforms if name == case or name.startswith(f"{case}_")]
        if not cases:
            raise XModalError(f"{file} has no transform: {request.transforms} holds no .tfm whose name it begins with.")
        case = max(cases, key=len)
        jobs.append(_Job(file, transforms[case], _grid(request, case), request.output / f"{name}.nii.gz"))
        same = next((one.volume for one in jobs[:-1] if one.output == jobs[-1].output), None)
        if same is not None:
            raise XModalError(f"{same} and {file} would both become {jobs[-1].output.name}: rename one of them.")
    if not jobs:
        raise XModalError(f"the folder {request.volumes} holds no volumes, which end in {', '.join(VOLUMES)}.")
    return jobs


def _grid(request: ApplyRequest, case: str) -> Path:
    number = "_0001" if request.inverse else "_0000"
    files = [request.onto / f"{case}{of}{ending}" for of in (number, "") for ending in VOLUMES]
    for file in files:
        if file.is_file():
            return file
    raise XModalError(
        f"{files[0]} is missing: --onto holds the images onto whose grids volumes go, {case}{number} or {case} with "
        f"{', '.join(VOLUMES)}."
    )


def _read(job: _Job, request: ApplyRequest) -> tuple[sitk.Image, sitk.Image, sitk.Transform]:
    volume, grid = (read_volume_file(file).image for file in (job.volume, job.grid))
    try:
        transform = sitk.ReadTransform(str(job.transform))
        if transform.GetDimension() != _DIMENSIONS:
            raise RuntimeError(f"of {transform.GetDimension()} dimensions")
        transform = transform.GetInverse() if request.inverse else transform
    except RuntimeError as error:
        invertible = " that has an inverse" if request.inverse else ""
        raise XModalError(
            f"{job.transform} is no transform of volumes of SimpleITK's{invertible}: register the case again."
        ) from error
    return volume, grid, transform
