"""`nnUNetXModal_demo`: from raw data to predictions on generated phantoms, in minutes.

Walks the whole way: generates phantoms of the prostate in T2W and ADC, plans, preprocesses, trains on three of
nnU-Net's five folds, predicts new cases with both channels and without each of them, and leaves a table (results.md), a
report and a figure (cases.png). A few minutes on two CPU cores. Called again it goes on where it was interrupted;
trainings of other trainers, lengths or folds are added to those that a folder holds, table and figure are those of the
last call.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.field_flags import FieldFlags, description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.demo.settings import DEVICES, Demo


def parser() -> argparse.ArgumentParser:
    """Build the parser: where to, how long, and of what."""
    p = argparse.ArgumentParser("nnUNetXModal_demo", description=description_of(__doc__))
    flags = FieldFlags(p, Demo)
    flags.add("folder", "where everything is written", type=Path, default=Path("nnUNetXModal_demo"))
    flags.add("device", "auto: an NVIDIA GPU if there is one, otherwise the CPU", choices=DEVICES)
    flags.add("epochs", "epochs of each training", type=int)
    flags.add("iterations", "training steps per epoch", type=int)
    flags.add("folds", "how many folds of nnU-Net's five are trained, 1 to 5", type=int)
    flags.add("trainers", "trainers that are compared", nargs="+", metavar="TRAINER")
    flags.add("configuration", "configuration of nnU-Net's plans, e.g. 2d or 3d_fullres")
    flags.add("batch_size", "samples per step, in place of the plan's batch size", type=int)
    flags.add(
        "features",
        "channels of the network's first level at most; other levels are narrowed alike",
        type=int,
    )
    flags.add(
        "processes",
        "trainings at once (default: two on a CPU with several cores, else one)",
        type=int,
    )
    flags.add(
        "dataset",
        "an own dataset in nnU-Net's raw format (…/DatasetXXX_Name, at least five training cases) instead of phantoms; "
        "it is read and not written to. Give it more --epochs and --features",
        type=Path,
        metavar="FOLDER",
    )
    flags.add(
        "cases",
        "new cases (imagesTs) that are predicted; of a dataset without any, cases that the first fold did not train "
        "on. The first three are shown",
        type=int,
    )
    flags.add("phantoms", "training cases that are generated", type=int)
    flags.add("seed", "of the phantoms; trainings themselves are random", type=int)
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_demo`."""
    settings = vars(parser().parse_args(arguments))
    from nnunet_xmodal.demo.walk import run  # imports scipy: not for --help

    run(Demo(**settings))
