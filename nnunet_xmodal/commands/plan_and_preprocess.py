"""`nnUNetXModal_plan_and_preprocess`: nnU-Net's command with our planners, streams and checks.

nnUNetv2_plan_and_preprocess with the planners of this package as well as nnU-Net's, streams, and a check of every file
before anything is written.
"""

import argparse
from typing import Any

from nnunet_xmodal.commands.field_flags import description_of, request_fields
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.planning_request import PlanRequest

_FIELDS = {
    "d": "datasets",
    "pl": "planner",
    "fpe": "fingerprint_extractor",
    "npfp": "fingerprint_processes",
    "clean": "recompute_fingerprint",
    "gpu_memory_target": "gpu_memory_gb",
    "preprocessor_name": "preprocessor",
    "overwrite_target_spacing": "target_spacing_mm",
    "overwrite_plans_name": "plans_name",
    "c": "configurations",
    "np": "preprocessing_processes",
}
"""nnU-Net's names of flags → fields of the request."""


def parser() -> argparse.ArgumentParser:
    """Build the parser: all flags of `nnUNetv2_plan_and_preprocess`, its defaults, and those of our planners."""
    p = argparse.ArgumentParser("nnUNetXModal_plan_and_preprocess", description=description_of(__doc__))
    p.add_argument("-d", nargs="+", type=int, required=True, help="dataset IDs, e.g. 2 4 5")
    p.add_argument(
        "--streams",
        nargs="+",
        metavar="CHANNEL+CHANNEL",
        help="channels of each stream, by name or number: --streams T1+T1c T2+FLAIR; default: dataset.json's "
        '"xmodal", else one stream per channel',
    )
    p.add_argument(
        "--iso_compute",
        action="store_true",
        default=None,
        help="with our planners: streams so narrow that a training step costs about as much as with nnU-Net's network",
    )
    p.add_argument(
        "--patch",
        nargs="+",
        type=int,
        metavar="N",
        help="Z Y X: voxels of a patch along the plans' axes, of which 2d takes Y X; two numbers are for 2d alone "
        "(default: as large as fits; with the reconstruction planners 32 64 64, or less)",
    )
    p.add_argument(
        "--base_width",
        type=int,
        metavar="N",
        help="channels of the finest level, doubled by every coarser one (default: nnU-Net's 32)",
    )
    p.add_argument(
        "--grid",
        **_along("D", "H", "W", type=int),
        help="with RegistrationPlanner: voxels along z, y, x that the network reads (default: 32 96 96)",
    )
    p.add_argument(
        "--size",
        nargs="+",
        type=int,
        metavar="N",
        help="with FewShotPlanner: pixels of a slice that the network reads, one number or two for y and x (default: "
        "256)",
    )
    p.add_argument(
        "--unlabelled",
        action="store_true",
        help="training cases without a label file get an empty one; at least one case has to be labelled",
    )
    p.add_argument(
        "--allow_missing",
        action="store_true",
        help="training cases may lack channels, as long as one stream of each is whole: for trainers that take such "
        "cases, see documentation/how-to/incomplete_cohorts.md",
    )
    _add_reconstruction(p.add_argument_group("ReconstructionPlanner and ReconstructionUNetPlanner"))
    p.add_argument("-pl", default=PlanRequest.planner, help="planner (default: %(default)s), e.g. XModalPlanner")
    p.add_argument("-fpe", default=PlanRequest.fingerprint_extractor, help="fingerprint extractor class of nnU-Net")
    p.add_argument(
        "-npfp",
        type=int,
        default=PlanRequest.fingerprint_processes,
        help="processes for checks and fingerprint (default: %(default)s)",
    )
    p.add_argument(
        "--verify_dataset_integrity", action="store_true", help="run nnU-Net's own check as well; ours always runs"
    )
    p.add_argument("--no_pp", action="store_true", help="plan only, do not preprocess")
    p.add_argument(
        "--clean", action="store_true", help="recompute an existing fingerprint: needed after changes of the data"
    )
    p.add_argument("-gpu_memory_target", type=float, help="GPU memory to plan for, in GB")
    p.add_argument("-preprocessor_name", default=PlanRequest.preprocessor, help="preprocessor class of nnU-Net")
    p.add_argument(
        "-overwrite_target_spacing",
        nargs="+",
        type=float,
        metavar="MM",
        help="three numbers in mm, for 3d_fullres and what follows from it, which 2d does",
    )
    p.add_argument("-overwrite_plans_name", help="name of the plans instead of the planner's own")
    p.add_argument(
        "-c",
        nargs="+",
        default=list(PlanRequest.configurations),
        help="configurations to preprocess (default: 2d 3d_fullres 3d_lowres)",
    )
    p.add_argument(
        "-np",
        type=int,
        nargs="+",
        help="processes for preprocessing, one number or one per configuration (default: 8 for 2d, 3d_lowres, else 4)",
    )
    p.add_argument("--verbose", action="store_true", help="print more")
    p.add_argument("--no_pbar", action="store_true", help="no progress bars")
    return p


def _along(*axes: str, type: type) -> dict[str, Any]:
    """Return what argparse is told of a flag with one number per axis."""
    return {"nargs": len(axes), "type": type, "metavar": axes}


def _add_reconstruction(p: argparse._ArgumentGroup) -> None:
    p.add_argument("--field_unit", choices=["ppm", "Hz", "rad"], help="of the field maps (default: dataset.json's)")
    p.add_argument("--B0", type=float, metavar="T", help="strength of the main field, for Hz and rad")
    p.add_argument("--TE", type=float, metavar="S", help="echo time in seconds, for rad")
    p.add_argument(
        "--b0_direction",
        **_along("X", "Y", "Z", type=float),
        help="of the main field in physical (LPS) space (default: 0 0 1)",
    )


def request_of(args: argparse.Namespace) -> PlanRequest:
    """Return what the flags ask for.

    Raises:
        XModalError: see PlanRequest.
    """
    fields = request_fields(args, _FIELDS)
    preprocess, progress = not fields.pop("no_pp"), not fields.pop("no_pbar")
    return PlanRequest(**fields, preprocess=preprocess, progress=progress)


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_plan_and_preprocess`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.planning import plan_and_preprocess  # imports torch: not for --help

    plan_and_preprocess(request)


if __name__ == "__main__":
    main()
