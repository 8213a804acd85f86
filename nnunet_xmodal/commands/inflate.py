"""`nnUNetXModal_inflate`: a checkpoint of nnU-Net, 2D or 3D, as the start of CMFF.

Makes a checkpoint of nnU-Net, 2D or 3D, into one that -pretrained_weights takes for nnUNetTrainerCMFF and its variants:
2D kernels are repeated along the depth and divided by it, the first layer is fitted to each stream's channels, heads
and fusion branch are left untrained.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


def parser() -> argparse.ArgumentParser:
    """Build the parser: checkpoints, what is to be trained with them, and where to."""
    p = argparse.ArgumentParser("nnUNetXModal_inflate", description=description_of(__doc__))
    p.add_argument(
        "-i",
        dest="checkpoints",
        type=Path,
        nargs="+",
        required=True,
        metavar="CHECKPOINT",
        help="one for both branches, or that of A and that of B; of nnU-Net's networks, of CMFT or of CMFF",
    )
    p.add_argument("-o", dest="output", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    p.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="name or ID of what CMFF is trained on")
    p.add_argument("-c", dest="configuration", required=True, metavar="CONFIGURATION", help="e.g. 3d_fullres")
    p.add_argument("-p", dest="plans_name", default="nnUNetPlans", metavar="PLANS", help="default: nnUNetPlans")
    p.add_argument(
        "--new_configuration",
        metavar="NAME",
        help="write a configuration of this name into the plans, which inherits from -c and has the checkpoint's "
        "levels and widths: for plans whose networks are others",
    )
    p.add_argument("--overwrite", action="store_true", help="replace the file, and the configuration, if they exist")
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_inflate`."""
    args = vars(parser().parse_args(arguments))
    from nnunet_xmodal.inflation import inflate  # imports torch: not for --help

    inflate(**args)


if __name__ == "__main__":
    main()
