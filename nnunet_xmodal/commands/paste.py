"""`nnUNetXModal_paste`: predictions on the crops of a prepared dataset, onto the whole images.

Puts label maps, or images, that lie on the crops of a dataset which nnUNetXModal_prepare made onto the grids of the
whole images: voxels are copied, not interpolated, and all else is 0.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


def parser() -> argparse.ArgumentParser:
    """Build the parser: predictions, the dataset whose crops they are of, and where to."""
    p = argparse.ArgumentParser("nnUNetXModal_paste", description=description_of(__doc__))
    p.add_argument(
        "-i", dest="predictions", type=Path, required=True, metavar="FOLDER", help="<case>.nii.gz, as predicted"
    )
    p.add_argument("-o", dest="output", type=Path, required=True, metavar="FOLDER", help="made if it does not exist")
    p.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="name or ID, in nnUNet_raw")
    p.add_argument("--overwrite", action="store_true", help="replace files that are there")
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_paste`."""
    args = vars(parser().parse_args(arguments))
    from nnunet_xmodal.preparation.paste import paste_folder  # imports SimpleITK: not for --help

    print(f"{len(paste_folder(**args))} files are in {args['output']}.")


if __name__ == "__main__":
    main()
