"""Options of requests for a registration."""

from dataclasses import dataclass
from typing import Literal

from nnunet_xmodal.prediction.options import option

_GROUP = "models that register images"


@dataclass(frozen=True)
class RegistrationOptions:
    """Options of models that register; None stands for "not given"."""

    roi: str | None = option(
        "Registration: where the organ is in the fixed image, <case>.nii.gz, a rough mask, or <case>.csv (header x,y,z,"
        " one row of physical LPS mm) or <case>.mrk.json of 3D Slicer, a point (default: amid the image's non-zero "
        "voxels)",
        metavar="FOLDER",
        group="within an organ",
    )
    init: Literal["none", "geometry", "moments"] | None = option(
        "where the moving image begins: none trusts the physical coordinates of both files, geometry and moments lay "
        "the volumes' centres, or the centres of their mass, on each other (default: none)",
        choices=["none", "geometry", "moments"],
        group=_GROUP,
    )
    labels: str | None = option(
        "labels of the fixed images, for trainers that read them", metavar="FOLDER", group=_GROUP
    )
    stage2: str | None = option(
        "trainer of the same plans that registers what is left", metavar="TRAINER", group=_GROUP
    )
    refine: Literal["mi"] | None = option(
        "behind the networks: maximise mutual information", choices=["mi"], group=_GROUP
    )
    grad_cam: bool | None = option(
        "also write <case>_gradcam_fixed.nii.gz and _moving.nii.gz: what both attention blocks go by",
        flag=True,
        group=_GROUP,
    )
