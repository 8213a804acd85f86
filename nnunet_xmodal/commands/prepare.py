"""`nnUNetXModal_prepare`: from native scans to a raw dataset of nnU-Net.

Brings the scans of every case onto one grid, as a raw dataset of nnU-Net with dataset.json. A case that cannot be
prepared is a sentence in prepare.csv, the others are done; a second call does what is missing. Exits with 1 if a case
was left out.
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from nnunet_xmodal.commands.argument_types import positive, with_negative_pairs
from nnunet_xmodal.commands.field_flags import FieldFlags, description_of, request_from
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.preparation.request import SPLITS, PreparationRequest

_PATTERNS: dict[str, Any] = {"nargs": "+", "metavar": "NAME=PATTERN"}


def parser() -> argparse.ArgumentParser:
    """Build the parser: where scans are, how they get onto one grid, and what dataset.json says."""
    p = argparse.ArgumentParser("nnUNetXModal_prepare", description=description_of(__doc__))
    flags = FieldFlags(p, PreparationRequest)
    flags.add(
        "input",
        "a folder per patient, or any tree of folders, or a table with the columns case, channel, file and, where "
        "there are any, label, transform, landmarks",
        "-i",
        type=Path,
        metavar="FOLDER|CSV|TSV",
    )
    flags.add("output", "in nnUNet_raw, for example Dataset510_Prostate", "-o", metavar="DATASET")
    flags.add("processes", "processes", "-np", type=positive, metavar="N")
    flags.add("overwrite", "prepare all cases anew, and replace what is there")
    _add_sources(FieldFlags(p.add_argument_group("where the scans are"), PreparationRequest))
    _add_grid(FieldFlags(p.add_argument_group("onto one grid"), PreparationRequest))
    _add_dataset_json(FieldFlags(p.add_argument_group("dataset.json"), PreparationRequest))
    return p


def _add_sources(sources: FieldFlags) -> None:
    sources.add(
        "channels",
        "in the order of their numbers: T2W=*t2w* is looked for in a folder per case, ADC=scans/{case}_adc.mha where "
        "{case} stands; * ? [] and ** as in the shell, | between alternatives; a DICOM series is a folder. With a CSV: "
        "names alone",
        **_PATTERNS,
    )
    sources.add("label", "likewise: a file, a DICOM folder, or one of PNG slices", metavar="PATTERN")
    sources.add(
        "recipe",
        f"all of this for a published dataset: {_recipes()}, or a file of yours",
        metavar="NAME|FILE",
    )
    sources.add(
        "allow_missing",
        "cases may lack channels, as long as one stream of each is whole (see --streams); missing.json says what each "
        "lacks. For plan_and_preprocess --allow_missing",
    )
    sources.add(
        "unlabelled",
        "where cases without a label go: imagesTs, or imagesTr for plan_and_preprocess --unlabelled (default: Ts)",
        choices=SPLITS,
    )


def _add_grid(grid: FieldFlags) -> None:
    grid.add(
        "reference",
        "channel that gives the grid, or label (default: the first channel)",
        metavar="NAME|label",
    )
    grid.add(
        "register",
        "align every channel rigidly with the reference (the first one for --reference label) by mutual information; "
        "transforms are kept, similarities stand in prepare.csv",
    )
    grid.add(
        "transform",
        "known alignment of a channel: .tfm of SimpleITK or a 4x4 matrix in LPS mm, reference to channel point",
        **_PATTERNS,
    )
    grid.add(
        "landmarks",
        "points of the same names in the reference and a channel, which are laid on each other rigidly: .fcsv, "
        ".mrk.json, .csv (x,y,z,label in LPS mm), or label maps",
        **_PATTERNS,
    )
    grid.add("roi", "crop to a label, or to masks named <case>.nii.gz", metavar="LABEL|FOLDER")
    grid.add(
        "roi_label",
        "values of the organ in these masks (default: from 0.5)",
        nargs="+",
        type=int,
        metavar="N",
    )
    grid.add("margin", "around it on every side (default: 0)", type=float, metavar="MM")
    grid.add(
        "orientation",
        "store all cases along the same axes, for example LPS (x to the left, y to the back, z to the head): voxels "
        "stay, their order changes. Prediction then turns its cases likewise, and results back. With a raw dataset as "
        "-i and without --channels: turns that dataset",
        metavar="CODE",
    )


def _add_dataset_json(labels: FieldFlags) -> None:
    labels.add(
        "labels",
        "lesion=1, or regions from large to small: whole=1,2 core=2",
        nargs="+",
        metavar="NAME=VALUE",
    )
    labels.add("map", "values of label files, all at once: 1:2 2:1 4:3", nargs="+", metavar="OLD:NEW")
    labels.add("label_component", "which volume of 4D label files counts, from 0", type=int, metavar="N")
    labels.add("streams", "channels of each stream: T2W ADC+DWI", nargs="+", metavar="NAME+NAME")


def _recipes() -> str:
    from nnunet_xmodal.preparation.recipe import recipe_names

    return ", ".join(recipe_names())


request_of = partial(request_from, PreparationRequest)
"""From what the parser returned to the request."""


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
