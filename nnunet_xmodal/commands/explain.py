"""`nnUNetXModal_explain`: which modality counted, and where the network looked.

For every segmentation model, stock nnU-Net's included: Shapley values of its streams or channels, on the predicted
volume and, with references, on the Dice; Grad-CAM; attention maps.
"""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.argument_types import fold, positive
from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.prediction.options import add_options, given_options
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.segmentation.explanation_request import WHAT, ExplanationRequest
from nnunet_xmodal.tasks.segmentation.options import OrganOptions


def parser() -> argparse.ArgumentParser:
    """Build the parser: cases and model by the flags of `nnUNetXModal_predict`, and what is to be explained."""
    p = argparse.ArgumentParser("nnUNetXModal_explain", description=description_of(__doc__))
    p.add_argument("-i", required=True, metavar="FOLDER", help="images, <case>_0000, <case>_0001, … as in training")
    p.add_argument("-o", required=True, metavar="FOLDER", help="output; made if it does not exist")
    p.add_argument("-m", type=Path, metavar="FOLDER|ZIP", help="a trained model, in the place of -d and -c")
    p.add_argument("-d", default="", metavar="DATASET", help="name or ID of the model's dataset")
    p.add_argument("-p", default="", help="plans (default: nnUNetPlans, or the model's)")
    p.add_argument("-tr", default="", help="trainer (default: nnUNetTrainer, or the model's)")
    p.add_argument("-c", default="", help="configuration, e.g. 2d")
    folds = "folds to average, or all (default: 0 1 2 3 4, or all that the model -m has)"
    p.add_argument("-f", nargs="+", type=fold, default=[], help=folds)
    p.add_argument("-chk", default="checkpoint_final.pth", help="checkpoint (default: checkpoint_final.pth)")
    p.add_argument("-step_size", type=float, default=0.5, help="step of the sliding window in patches (default: 0.5)")
    p.add_argument("--disable_tta", action="store_true", help="no mirroring")
    p.add_argument("-prev_stage_predictions", metavar="FOLDER", help="predictions of the previous stage of a cascade")
    p.add_argument("-npp", type=int, default=1, help="processes that preprocess, 0 for this one alone (default: 1)")
    p.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    p.add_argument("--disable_progress_bar", action="store_true", help="no progress bar")
    p.add_argument("--trust", action="store_true", help="believe the model's files: see nnUNetXModal_predict")
    told = p.add_argument_group("what is told")
    told.add_argument("--what", nargs="+", choices=WHAT, default=["shapley"], help="default: shapley")
    told.add_argument("--label", nargs="+", default=[], metavar="NAME", help="of dataset.json (default: all)")
    told.add_argument(
        "--of",
        nargs="+",
        default=[],
        metavar="streams|channels|T1+T1c",
        help="what Shapley values share out among, six at most; channels in groups of your own, all of them, as T1+T1c "
        "T2 (default: streams where the model has some)",
    )
    told.add_argument("--gt", type=Path, metavar="FOLDER", help="references <case>.nii.gz: Shapley values of the Dice")
    told.add_argument(
        "--level", nargs="+", type=positive, default=[2], metavar="N", help="Grad-CAM's, from 1, fine (default: 2)"
    )
    add_options(p, [OrganOptions])
    return p


def request_of(args: argparse.Namespace) -> ExplanationRequest:
    """Return what a command line asks for."""
    prediction = PredictionRequest(
        images=Path(args.i),
        output=Path(args.o),
        dataset=args.d,
        configuration=args.c,
        trainer=args.tr,
        plans=args.p,
        folds=tuple(args.f),
        checkpoint=args.chk,
        step_size=args.step_size,
        mirroring=not args.disable_tta,
        previous_stage=None if args.prev_stage_predictions is None else Path(args.prev_stage_predictions),
        device=args.device,
        preprocessing_processes=args.npp,
        progress=not args.disable_progress_bar,
        model=args.m,
        trust=args.trust,
        options=given_options(vars(args), [OrganOptions]),
    )
    return ExplanationRequest(
        prediction,
        what=tuple(args.what),
        labels=tuple(args.label),
        of=tuple(args.of),
        references=args.gt,
        levels=tuple(args.level),
    )


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_explain`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.explain import explain  # imports torch: not for --help

    explain(request)


if __name__ == "__main__":
    main()
