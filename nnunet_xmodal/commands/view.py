"""`nnUNetXModal_view`: cases in the browser.

Writes a page per case with its images, label maps, probabilities and maps (attention, Grad-CAM, uncertainty) side by
side, all panes with one cross, drawn by NiiVue. Everything is in the page: it works offline, and whoever gets it
sees the images. Needs the extra viewer.
"""

import argparse
from functools import partial
from pathlib import Path

from nnunet_xmodal.commands.field_flags import FieldFlags, description_of, request_from
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.viewing.request import ViewRequest


def parser() -> argparse.ArgumentParser:
    """Build the parser: cases, and the folders that have something of them."""
    p = argparse.ArgumentParser("nnUNetXModal_view", description=description_of(__doc__))
    p.add_argument("cases", nargs="+", metavar="CASE", help="names of cases, without channel and file ending")
    flags = FieldFlags(p, ViewRequest)
    flags.add("images", "images <case>_0000, <case>_0001, …", "-i", type=Path, metavar="FOLDER")
    flags.add("output", "gets <case>.html", "-o", type=Path, metavar="FOLDER")
    flags.add("labels", "references and predictions, named as the cases", "-l", nargs="+", metavar="[NAME=]FOLDER")
    flags.add("probabilities", "also <case>.npz of these folders, from --save_probabilities or --npz")
    flags.add("maps", "<case>_….nii.gz: attention, Grad-CAM, uncertainty", nargs="+", type=Path, metavar="FOLDER")
    flags.add("dataset", "name or ID, which names channels and labels", "-d", metavar="DATASET")
    flags.add("dataset_json", "(default: that of -l, or beside -i)", type=Path, metavar="FILE")
    p.add_argument("--no_browser", dest="browser", action="store_false", help="open no page")
    return p


request_of = partial(request_from, ViewRequest)
"""From what the parser returned to the request."""


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_view`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.viewing.run import view  # imports nnU-Net's readers: not for --help

    for page in view(request):
        print(str(page).encode("utf-8", "backslashreplace").decode())


if __name__ == "__main__":
    main()
