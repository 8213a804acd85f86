"""`nnUNetXModal_apply`: labels and other volumes, through transforms or their inverse.

Brings labels and other volumes of the moving images onto the fixed ones by the transforms that nnUNetXModal_predict has
found, or with --inverse those of the fixed images onto the moving ones: targets drawn in MR onto ultrasound. Files
begin with the names of their cases.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


def parser() -> argparse.ArgumentParser:
    """Build the parser: volumes, transforms, and the images onto whose grids they go."""
    p = argparse.ArgumentParser("nnUNetXModal_apply", description=description_of(__doc__))
    p.add_argument(
        "-i", dest="volumes", type=Path, required=True, metavar="FOLDER", help="<case>.nii.gz, <case>_targets.nrrd, …"
    )
    p.add_argument("-t", dest="transforms", type=Path, required=True, metavar="FOLDER", help="<case>.tfm")
    p.add_argument(
        "--onto", type=Path, required=True, metavar="FOLDER", help="the fixed images, or with --inverse the moving ones"
    )
    p.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER", help="made if it does not exist")
    p.add_argument("--inverse", action="store_true", help="from the fixed image to the moving one")
    p.add_argument("--nearest", action="store_true", help="nearest voxel, for label maps (default: linear)")
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_apply`."""
    args = vars(parser().parse_args(arguments))
    from nnunet_xmodal.tasks.registration.apply import ApplyRequest, apply_folder  # imports SimpleITK: not for --help

    print(f"{len(apply_folder(ApplyRequest(**args)))} files are in {args['output']}.")


if __name__ == "__main__":
    main()
