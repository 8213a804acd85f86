"""`nnUNetXModal_predict`: nnU-Net's command for every model of this package.

nnUNetv2_predict with a check of every input file before anything is written; for segmentation models its output is
nnU-Net's.
"""

import argparse
import os
from pathlib import Path
from typing import Any

from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.field_flags import description_of
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.options import add_options, given_options
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.scans_request import ScansRequest
from nnunet_xmodal.tasks.few_shot.options import FewShotOptions
from nnunet_xmodal.tasks.reconstruction.options import SusceptibilityOptions
from nnunet_xmodal.tasks.registration.options import RegistrationOptions
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.synthesis.options import SynthesisOptions

_OF_SCANS = ("channels", "grid_of", "register", "transform", "landmarks", "dicom_seg")


class _Unsaid(str):
    """nnU-Net's default of a flag; what is not said is the model's own where -m gives one."""


class _UnsaidFolds(list):
    """Likewise, of -f."""


KINDS = (SegmentationOptions, SynthesisOptions, RegistrationOptions, SusceptibilityOptions, FewShotOptions)
"""Kinds of models, by what their requests may hold."""


def parser() -> argparse.ArgumentParser:
    """Build the parser: all flags of `nnUNetv2_predict`, with its defaults, and those of other kinds of models."""
    p = argparse.ArgumentParser("nnUNetXModal_predict", description=description_of(__doc__))
    p.add_argument("-i", metavar="FOLDER", help="input images, <case>_0000, <case>_0001, … as in training")
    p.add_argument("-o", metavar="FOLDER", help="output; made if it does not exist")
    p.add_argument(
        "-m",
        metavar="FOLDER|ZIP",
        help="a trained model, wherever it is, in the place of -d and -c; nnU-Net's variables are not needed",
    )
    p.add_argument("--card", action="store_true", help="show the card of the model -m, and predict nothing")
    p.add_argument("-d", metavar="DATASET", help="name or ID of the dataset that the model was trained on")
    p.add_argument("-p", default=_Unsaid("nnUNetPlans"), help="plans (default: nnUNetPlans, or the model's)")
    p.add_argument("-tr", default=_Unsaid("nnUNetTrainer"), help="trainer (default: nnUNetTrainer, or the model's)")
    p.add_argument("-c", help="configuration, e.g. 2d")
    p.add_argument(
        "-f",
        nargs="+",
        type=fold,
        default=_UnsaidFolds([0, 1, 2, 3, 4]),
        help="folds to average, or all (default: 0 1 2 3 4, or all that the model -m has)",
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
        "--max_memory",
        type=float,
        metavar="GB",
        help="stay below about this much memory: one process, one case after the other, results on the disk of -o where"
        " they do not fit",
    )
    p.add_argument(
        "--trust",
        action="store_true",
        help="let the model's checkpoints and plans name any code and run it: only for models whose makers you trust",
    )
    _add_scans(p)
    add_options(p, KINDS)
    return p


def _add_scans(p: argparse.ArgumentParser) -> None:
    scans = p.add_argument_group("scans as they come, in the place of -i; see nnUNetXModal_prepare")
    scans.add_argument(
        "--scans",
        metavar="FOLDER|CSV",
        help="a folder per patient, any tree of folders, or a table with the columns case, channel, file",
    )
    patterns: dict[str, Any] = {"nargs": "+", "default": (), "metavar": "NAME=PATTERN"}
    scans.add_argument("--channels", help="of the model, in any order, e.g. T2W=*t2w* ADC=*adc*", **patterns)
    scans.add_argument(
        "--grid_of", metavar="NAME", help="channel whose grid all get, on which the answer lies (default: the first)"
    )
    scans.add_argument("--register", action="store_true", help="align the others rigidly with it by mutual information")
    scans.add_argument("--transform", help="known alignment of a channel: .tfm or a 4x4 matrix", **patterns)
    scans.add_argument("--landmarks", help="points of the same names in both, which are laid on each other", **patterns)
    scans.add_argument(
        "--dicom_seg",
        action="store_true",
        help="also write <case>.dcm, a DICOM segmentation that refers to the series whose grid it has",
    )


def request_of(args: argparse.Namespace) -> PredictionRequest:
    """Return what a command line asks for.

    Raises:
        XModalError: without images, output or model.
    """
    if args.i is None and args.scans is None:
        raise XModalError("-i is missing: give it with the folder of images, or --scans with that of patients.")
    if args.o is None:
        raise XModalError("-o is missing: give it with the folder of the output.")
    if args.i is not None and args.scans is not None:
        raise XModalError("-i and --scans are two inputs: leave one out.")
    if args.scans is None and (given := [flag for flag in _OF_SCANS if getattr(args, flag)]):
        raise XModalError(f"--{given[0]} is about scans: give their folder with --scans.")
    return PredictionRequest(
        images=Path(args.i or args.scans),
        output=Path(args.o),
        dataset=args.d or "",
        configuration=args.c or "",
        trainer="" if isinstance(args.tr, _Unsaid) else args.tr,
        plans="" if isinstance(args.p, _Unsaid) else args.p,
        folds=() if isinstance(args.f, _UnsaidFolds) else tuple(args.f),
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
        max_memory=args.max_memory,
        progress=not args.disable_progress_bar,
        verbose=args.verbose,
        model=None if args.m is None else Path(args.m),
        trust=args.trust,
        options=given_options(vars(args), KINDS),
    )


def scans_request_of(args: argparse.Namespace, prediction: PredictionRequest) -> ScansRequest:
    """Return what a command line with --scans asks for."""
    return ScansRequest(
        prediction,
        Path(args.scans),
        tuple(args.channels),
        args.grid_of,
        args.register,
        tuple(args.transform),
        tuple(args.landmarks),
        args.dicom_seg,
    )


def _from_environment(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 3


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_predict`."""
    args = parser().parse_args(arguments)
    if args.card:
        from nnunet_xmodal.sharing.card import shown_card

        print(shown_card(args.m))
        return
    request = request_of(args)
    if args.scans is not None:
        from nnunet_xmodal.predict_scans import predict_scans

        predict_scans(scans_request_of(args, request))
        return
    from nnunet_xmodal.predict import predict  # imports torch: not for --help

    predict(request)


if __name__ == "__main__":
    main()
