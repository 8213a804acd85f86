"""`nnUNetXModal_prepare`: from native scans to a raw dataset of nnU-Net."""

import argparse
import sys
from pathlib import Path

from nnunet_xmodal.commands.argument_types import positive, with_negative_pairs
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.commands.request_fields import request_fields
from nnunet_xmodal.files.environment import default_processes
from nnunet_xmodal.preparation.request import SPLITS, PreparationRequest


def parser() -> argparse.ArgumentParser:
    """Build the parser: where scans are, how they get onto one grid, and what dataset.json says."""
    p = argparse.ArgumentParser(
        prog="nnUNetXModal_prepare",
        description="Brings the scans of every case onto one grid, as a raw dataset of nnU-Net with dataset.json. "
        "A case that cannot be prepared is a sentence in prepare.csv, the others are done; a second call does what is "
        "missing. Exits with 1 if a case was left out.",
    )
    p.add_argument(
        "-i",
        dest="input",
        type=Path,
        required=True,
        metavar="FOLDER|CSV",
        help="a folder per patient, or any tree of folders, or a table with the columns case, channel, file and, where "
        "there are any, label, transform, landmarks",
    )
    p.add_argument(
        "-o", dest="output", required=True, metavar="DATASET", help="in nnUNet_raw, for example Dataset510_Prostate"
    )

    sources = p.add_argument_group("where the scans are")
    sources.add_argument(
        "--channels",
        nargs="+",
        metavar="NAME=PATTERN",
        help="in the order of their numbers: T2W=*t2w* is looked for in a folder per case, ADC=scans/{case}_adc.mha "
        "where {case} stands; * ? [] and ** as in the shell, | between alternatives; a DICOM series is a folder. With "
        "a CSV: names alone",
    )
    sources.add_argument("--label", metavar="PATTERN", help="likewise: a file, a DICOM folder, or one of PNG slices")
    sources.add_argument(
        "--recipe", metavar="NAME|FILE", help=f"all of this for a published dataset: {_recipes()}, or a file of yours"
    )
    sources.add_argument(
        "--unlabelled",
        choices=SPLITS,
        help="where cases without a label go: imagesTs, or imagesTr for plan_and_preprocess --unlabelled (default: Ts)",
    )

    grid = p.add_argument_group("onto one grid")
    grid.add_argument(
        "--reference", metavar="NAME|label", help="channel that gives the grid, or label (default: the first channel)"
    )
    grid.add_argument(
        "--register",
        action="store_true",
        help="align every channel rigidly with the reference (the first one for --reference label) by mutual "
        "information; transforms are kept, similarities stand in prepare.csv",
    )
    grid.add_argument(
        "--transform",
        nargs="+",
        metavar="NAME=PATTERN",
        help="known alignment of a channel: .tfm of SimpleITK or a 4x4 matrix in LPS mm, reference to channel point",
    )
    grid.add_argument(
        "--landmarks",
        nargs="+",
        metavar="NAME=PATTERN",
        help="points of the same names in the reference and a channel, which are laid on each other rigidly: .fcsv, "
        ".mrk.json, .csv (x,y,z,label in LPS mm), or label maps",
    )
    grid.add_argument("--roi", metavar="LABEL|FOLDER", help="crop to a label, or to masks named <case>.nii.gz")
    grid.add_argument(
        "--roi_label", nargs="+", type=int, metavar="N", help="values of the organ in these masks (default: from 0.5)"
    )
    grid.add_argument("--margin", type=float, metavar="MM", help="around it on every side (default: 0)")

    grid.add_argument(
        "--orientation",
        metavar="CODE",
        help="store all cases along the same axes, for example LPS (x to the left, y to the back, z to the head): "
        "voxels stay, their order changes. Prediction then turns its cases likewise, and results back. With a raw "
        "dataset as -i and without --channels: turns that dataset",
    )

    labels = p.add_argument_group("dataset.json")
    labels.add_argument(
        "--labels", nargs="+", metavar="NAME=VALUE", help="lesion=1, or regions from large to small: whole=1,2 core=2"
    )
    labels.add_argument("--map", nargs="+", metavar="OLD:NEW", help="values of label files, all at once: 1:2 2:1 4:3")
    labels.add_argument(
        "--label_component", type=int, metavar="N", help="which volume of 4D label files counts, from 0"
    )
    labels.add_argument("--streams", nargs="+", metavar="NAME+NAME", help="channels of each stream: T2W ADC+DWI")

    p.add_argument(
        "-np", dest="processes", type=positive, default=default_processes(), help="processes (default: %(default)s)"
    )
    p.add_argument("--overwrite", action="store_true", help="prepare all cases anew, and replace what is there")
    return p


def _recipes() -> str:
    from nnunet_xmodal.preparation.recipe import recipe_names

    return ", ".join(recipe_names())


def request_of(args: argparse.Namespace) -> PreparationRequest:
    """Return what the flags ask for.

    Raises:
        XModalError: see PreparationRequest.
    """
    return PreparationRequest(**request_fields(args))


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_prepare`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    request = request_of(parser().parse_args(with_negative_pairs(arguments)))
    from nnunet_xmodal.preparation.run import prepare  # imports SimpleITK: not for --help

    if prepare(request):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
