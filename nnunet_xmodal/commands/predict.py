"""`nnUNetXModal_predict`: nnU-Net's command for every model of this package.

nnUNetv2_predict with a check of every input file before anything is written; for segmentation models its output is
nnU-Net's.
"""

import argparse
import os
from pathlib import Path

from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.prediction.options import add_options, given_options
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.tasks.few_shot.options import FewShotOptions
from nnunet_xmodal.tasks.reconstruction.options import SusceptibilityOptions
from nnunet_xmodal.tasks.registration.options import RegistrationOptions
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.synthesis.options import SynthesisOptions

KINDS = (SegmentationOptions, SynthesisOptions, RegistrationOptions, SusceptibilityOptions, FewShotOptions)
"""Kinds of models, by what their requests may hold."""


def parser() -> argparse.ArgumentParser:
    """Build the parser: all flags of `nnUNetv2_predict`, with its defaults, and those of other kinds of models."""
    p = argparse.ArgumentParser("nnUNetXModal_predict", description=description_of(__doc__))
    p.add_argument(
        "-i", required=True, metavar="FOLDER", help="input images, <case>_0000, <case>_0001, … as in training"
    )
    p.add_argument("-o", required=True, metavar="FOLDER", help="output; made if it does not exist")
    p.add_argument(
        "-d", required=True, metavar="DATASET", help="name or ID of the dataset that the model was trained on"
    )
    p.add_argument("-p", default="nnUNetPlans", help="plans (default: nnUNetPlans)")
    p.add_argument("-tr", default="nnUNetTrainer", help="trainer (default: nnUNetTrainer)")
    p.add_argument("-c", required=True, help="configuration, e.g. 2d")
    p.add_argument(
        "-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], help="folds to average, or all (default: 0 1 2 3 4)"
    )
    p.add_argument("-step_size", type=float, default=0.5, help="step of the sliding window in patches (default: 0.5)")
    p.add_argument("--disable_tta", action="store_true", help="no mirroring: faster, less accurate")
    p.add_argument("--verbose", action="store_true", help="print more")
    p.add_argument("--save_probabilities", action="store_true", help="also write probabilities, needed for ensembles")
    p.add_argument("--continue_prediction", action="store_true", help="skip cases that are already predicted")
    p.add_argument("-chk", default="checkpoint_final.pth", help="checkpoint (default: checkpoint_final.pth)")
    p.add_argument(
        "-npp", type=int, default=_from_environment("nnUNet_npp"), help="processes that preprocess (default: 3)"
    )
    p.add_argument("-nps", type=int, default=_from_environment("nnUNet_nps"), help="processes that write (default: 3)")
    p.add_argument("-prev_stage_predictions", metavar="FOLDER", help="predictions of the previous stage of a cascade")
    p.add_argument("-num_parts", type=int, default=1, help="how many such calls share the cases (default: 1)")
    p.add_argument("-part_id", type=int, default=0, help="which of them this is, from 0 (default: 0)")
    p.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    p.add_argument("--disable_progress_bar", action="store_true", help="no progress bar")
    p.add_argument("--not_on_device", action="store_true", help="keep results off the GPU: for very large images")
    p.add_argument(
        "--trust",
        action="store_true",
        help="let the model's checkpoints and plans name any code and run it: only for models whose makers you trust",
    )
    add_options(p, KINDS)
    return p


def request_of(args: argparse.Namespace) -> PredictionRequest:
    """Return what a command line asks for."""
    return PredictionRequest(
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
        save_probabilities=args.save_probabilities,
        continue_prediction=args.continue_prediction,
        previous_stage=None if args.prev_stage_predictions is None else Path(args.prev_stage_predictions),
        num_parts=args.num_parts,
        part_id=args.part_id,
        device=args.device,
        preprocessing_processes=args.npp,
        export_processes=args.nps,
        on_device=not args.not_on_device,
        progress=not args.disable_progress_bar,
        verbose=args.verbose,
        trust=args.trust,
        options=given_options(vars(args), KINDS),
    )


def _from_environment(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 3


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_predict`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.predict import predict  # imports torch: not for --help

    predict(request)


if __name__ == "__main__":
    main()
