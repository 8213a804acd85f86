"""`nnUNetXModal_demo`: from raw data to predictions on generated phantoms, in minutes."""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.demo.settings import DEFAULT_TRAINERS, DEVICES, Demo


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_demo`."""
    parser = argparse.ArgumentParser(
        prog="nnUNetXModal_demo",
        description="Walks the whole way: generates phantoms of the prostate in T2W and ADC, plans, preprocesses, "
        "trains on three of nnU-Net's five folds, predicts new cases with both channels and without each of them, and "
        "leaves a table (results.md), a report and a figure (cases.png). A few minutes on two CPU cores. Called again "
        "it goes on where it was interrupted; trainings of other trainers, lengths or folds are added to those "
        "that a folder holds, table and figure are those of the last call.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--folder", type=Path, default=Path("nnUNetXModal_demo"), help="where everything is written")
    parser.add_argument(
        "--device", choices=DEVICES, default="auto", help="auto: an NVIDIA GPU if there is one, otherwise the CPU"
    )
    parser.add_argument("--epochs", type=int, default=Demo.epochs, help="epochs of each training")
    parser.add_argument("--iterations", type=int, default=Demo.iterations, help="training steps per epoch")
    parser.add_argument(
        "--folds", type=int, default=Demo.folds, help="how many folds of nnU-Net's five are trained, 1 to 5"
    )
    parser.add_argument(
        "--trainers",
        nargs="+",
        metavar="TRAINER",
        default=argparse.SUPPRESS,
        help=f"trainers that are compared (default: {' '.join(DEFAULT_TRAINERS)})",
    )
    parser.add_argument(
        "--configuration", default=Demo.configuration, help="configuration of nnU-Net's plans, e.g. 2d or 3d_fullres"
    )
    parser.add_argument(
        "--batch_size", type=int, default=Demo.batch_size, help="samples per step, in place of the plan's batch size"
    )
    parser.add_argument(
        "--features",
        type=int,
        default=Demo.features,
        help="channels of the network's first level at most; other levels are narrowed alike",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=argparse.SUPPRESS,
        help="trainings at once (default: two on a CPU with several cores, else one)",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        default=None,
        metavar="FOLDER",
        help="an own dataset in nnU-Net's raw format (…/DatasetXXX_Name, at least five training cases) instead of "
        "phantoms; it is read and not written to. Give it more --epochs and --features",
    )
    parser.add_argument(
        "--cases",
        type=int,
        default=Demo.cases,
        help="new cases (imagesTs) that are predicted; of a dataset without any, cases that the first fold "
        "did not train on. The first three are shown",
    )
    parser.add_argument("--phantoms", type=int, default=Demo.phantoms, help="training cases that are generated")
    parser.add_argument("--seed", type=int, default=Demo.seed, help="of the phantoms; trainings themselves are random")
    settings = vars(parser.parse_args(arguments))
    from nnunet_xmodal.demo.walk import run  # imports scipy: not for --help

    run(Demo(**settings))
