"""`nnUNetXModal_predict`: nnU-Net's command for every model of this package."""

import argparse
import os

from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


def parser() -> argparse.ArgumentParser:
    """All flags of `nnUNetv2_predict`, with its defaults, and those of other kinds of models."""
    p = argparse.ArgumentParser(
        prog="nnUNetXModal_predict",
        description="nnUNetv2_predict with a check of every input file before anything is written; for segmentation "
        "models its output is nnU-Net's.",
    )
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
    p.add_argument(
        "--attention_maps",
        action="store_true",
        help="also write OUTPUT/attention_maps/<case>_stream<k>_level<m>.nii.gz of the cases that this call predicts; "
        "1 is uniform attention",
    )
    p.add_argument(
        "--reference_intensities",
        nargs="+",
        type=float,
        metavar=("MEAN", "SD"),
        help="models that make images: map normalised intensities to this mean and standard deviation (one pair for "
        "all made channels, or one for each)",
    )
    _add_missing(p.add_argument_group("cases that lack channels"))
    _add_organ(p.add_argument_group("within an organ"))
    _add_registration(p.add_argument_group("models that register images"))
    _add_reconstruction(p.add_argument_group("models that reconstruct images"))
    _add_few_shot(p.add_argument_group("few-shot models"))
    return p


def _add_missing(p: argparse._ArgumentGroup) -> None:
    p.add_argument(
        "--allow_missing",
        action="store_true",
        help="models that were trained with stream dropout: a stream is left out where any of its channels has no "
        "file; OUTPUT/missing.json tells of every case what was missing",
    )
    p.add_argument(
        "--impute",
        metavar="FOLDER",
        help="model folder of nnUNetTrainerCMFTPaired (or another CMFT), whose folds -f make the channels that have no "
        "file; for any model that normalises by z-scores. With --allow_missing: of the cases of which it can",
    )


def _add_organ(p: argparse._ArgumentGroup) -> None:
    p.add_argument(
        "--roi",
        metavar="FOLDER",
        help="segmentation: masks <case>.nii.gz of any model, on any grid, that images are cropped to; predictions lie "
        "on the whole image. Registration: where the organ is in the fixed image, <case>.nii.gz, a rough mask, or "
        "<case>.csv (header x,y,z, one row of physical LPS mm) or <case>.mrk.json of 3D Slicer, a point (default: amid "
        "the image's non-zero voxels)",
    )
    p.add_argument(
        "--roi_label",
        nargs="+",
        type=int,
        metavar="N",
        help="segmentation: values of the organ in the masks (default: all from 0.5 on)",
    )
    p.add_argument(
        "--margin",
        type=float,
        metavar="MM",
        help="segmentation: around the organ on every side (default: as the training images were cropped, else 0)",
    )


def _add_registration(p: argparse._ArgumentGroup) -> None:
    p.add_argument(
        "--init",
        choices=["none", "geometry", "moments"],
        help="where the moving image begins: none trusts the physical coordinates of both files, geometry and moments "
        "lay the volumes' centres, or the centres of their mass, on each other (default: none)",
    )
    p.add_argument("--labels", metavar="FOLDER", help="labels of the fixed images, for trainers that read them")
    p.add_argument("--stage2", metavar="TRAINER", help="trainer of the same plans that registers what is left")
    p.add_argument("--refine", choices=["mi"], help="behind the networks: maximise mutual information")
    p.add_argument(
        "--grad_cam",
        action="store_true",
        help="also write <case>_gradcam_fixed.nii.gz and _moving.nii.gz: what both attention blocks go by",
    )


def _add_reconstruction(p: argparse._ArgumentGroup) -> None:
    p.add_argument(
        "--mask",
        metavar="FOLDER",
        help="<case>.nii.gz, outside of which results are 0 (default: where the inputs are not 0)",
    )
    p.add_argument("--field_unit", choices=["ppm", "Hz", "rad"], help="of the field maps (default: the training's)")
    p.add_argument("--B0", type=float, metavar="T", help="strength of the main field, for Hz and rad")
    p.add_argument("--TE", type=float, metavar="S", help="echo time in seconds, for rad")
    p.add_argument(
        "--b0_direction",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="of the main field in physical (LPS) space (default: the training's, which is 0 0 1 unless planned "
        "otherwise)",
    )


def _add_few_shot(p: argparse._ArgumentGroup) -> None:
    p.add_argument(
        "--support",
        metavar="FOLDER",
        help="dataset.json, imagesTr and labelsTr of cases whose labels are to be segmented, seen in training or not "
        "(default: the support slices that the model keeps from its training cases)",
    )
    p.add_argument(
        "--match",
        choices=["position", "best"],
        help="which support slices answer for a slice: those from the nearest relative position in their scans, or the "
        "best of all, as in nnUNetv2_predict (default: position)",
    )


def _from_environment(variable: str) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else 3


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    from nnunet_xmodal.files.claim import claimed
    from nnunet_xmodal.predict import predict  # imports torch: not for --help

    with claimed(args.o, f"part_{args.part_id}_of_{args.num_parts}" if args.num_parts > 1 else ""):
        predict(args)


if __name__ == "__main__":
    main()
