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
    moving: str | None = option(
        "the moving images, <case> or <case>_0001 with an ending of any format, where -i holds the fixed ones alone",
        metavar="FOLDER",
        group=_GROUP,
    )
    init: str | None = option(
        "where the moving image begins: none trusts the physical coordinates of both files, geometry and moments lay "
        "the volumes' centres, or the centres of their mass, on each other; a folder holds <case>.tfm, or landmarks "
        "<case>_0000 and <case>_0001 (default: none)",
        metavar="none|geometry|moments|FOLDER",
        group=_GROUP,
    )
    labels: str | None = option(
        "labels of the fixed images: for trainers that read them, or to measure SRE and Dice",
        metavar="FOLDER",
        group=_GROUP,
    )
    moving_labels: str | None = option(
        "labels of the moving images, to measure the Dice with --labels", metavar="FOLDER", group=_GROUP
    )
    reference: str | None = option(
        "what is right, to measure errors: as the folder of --init; TRE of landmarks, SRE with --labels",
        metavar="FOLDER",
        group=_GROUP,
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
