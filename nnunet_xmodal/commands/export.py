"""`nnUNetXModal_export`: a trained model as one zip with a card.

Writes a zip that nnUNetXModal_predict -m takes anywhere, and nnUNetv2_install_pretrained_model_from_zip as well. Its
card says what the model reads and finds, its data, training, folds, scores, licence and intended use, and the SHA-256
of each file; nnUNetXModal_predict -m model.zip --card shows it.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.sharing.request import ExportRequest


def parser() -> argparse.ArgumentParser:
    """Build the parser: which model, and what its files do not say."""
    p = argparse.ArgumentParser("nnUNetXModal_export", description=description_of(__doc__))
    p.add_argument("-o", required=True, type=Path, metavar="ZIP", help="the zip to write")
    p.add_argument("-m", type=Path, metavar="FOLDER", help="folder of the model, in the place of -d and -c")
    p.add_argument("-d", default="", metavar="DATASET", help="name or ID of its dataset, in nnUNet_results")
    p.add_argument("-c", default="", metavar="CONFIGURATION", help="e.g. 3d_fullres")
    p.add_argument("-tr", default="", metavar="TRAINER", help="default: nnUNetTrainer, or that of -m")
    p.add_argument("-p", default="", metavar="PLANS", help="default: nnUNetPlans, or those of -m")
    p.add_argument("-f", nargs="+", type=fold, default=(), metavar="FOLD", help="default: 0 1 2 3 4, or those of -m")
    p.add_argument("-chk", default="checkpoint_final.pth", help="checkpoint (default: checkpoint_final.pth)")
    p.add_argument("--licence", default="", help="under which it may be used, e.g. CC-BY-4.0")
    p.add_argument("--intended_use", default="", metavar="TEXT", help="what it is for, and what it is not for")
    p.add_argument("--data", default="", metavar="TEXT", help="what it was trained on (default: that of dataset.json)")
    p.add_argument("--contact", default="", metavar="TEXT", help="whom to ask")
    p.add_argument(
        "--scores",
        type=Path,
        metavar="REPORT",
        help="folder of nnUNetXModal_compare (default: scores of the folds' validations)",
    )
    p.add_argument("--scored_as", default="", metavar="NAME", help="the model's name in that report")
    p.add_argument("--overwrite", action="store_true", help="replace the zip if it exists")
    p.add_argument("--trust", action="store_true", help="export a model that holds more than weights and layers")
    return p


def request_of(args: argparse.Namespace) -> ExportRequest:
    """Return what a command line asks for."""
    model = PredictionRequest(
        images=Path(),
        output=Path(),
        dataset=args.d,
        configuration=args.c,
        trainer=args.tr,
        plans=args.p,
        folds=tuple(args.f),
        checkpoint=args.chk,
        model=args.m,
        trust=args.trust,
    )
    said = {name: getattr(args, name) for name in ("licence", "intended_use", "data", "contact", "scores", "scored_as")}
    return ExportRequest(args.o, model, overwrite=args.overwrite, **said)


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_export`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.sharing.export import export  # imports torch: not for --help

    digest = export(request)
    print(f"{request.output}, {request.output.stat().st_size / 1e6:.1f} MB\nSHA-256 {digest}")


if __name__ == "__main__":
    main()
