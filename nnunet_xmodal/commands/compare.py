"""`nnUNetXModal_compare`: cross-validation results side by side."""

import argparse
from pathlib import Path

from nnunet_xmodal.commands.argument_types import fold, positive
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.commands.request_fields import request_fields
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.evaluation.empty_rules import EMPTY_RULES
from nnunet_xmodal.files.environment import default_processes


def parser() -> argparse.ArgumentParser:
    """Build the parser: models by the flags of `nnUNetv2_train`, or folders of predictions."""
    p = argparse.ArgumentParser(
        prog="nnUNetXModal_compare",
        description="Metrics per case, statistics and a report for the validation results of several trainers, or for "
        "folders of predictions from anywhere. What was computed before for the same files is not computed again.",
    )
    p.add_argument(
        "-o",
        dest="output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="gets report.html, summary.md and tables as CSV",
    )

    default = ComparisonRequest
    models = p.add_argument_group("trained models")
    models.add_argument("-d", dest="dataset", metavar="DATASET", help="dataset name or ID")
    models.add_argument(
        "-c",
        dest="configurations",
        nargs="+",
        default=(),
        metavar="CONFIGURATION",
        help="configurations, e.g. 2d 3d_fullres",
    )
    models.add_argument("-tr", dest="trainers", nargs="+", default=(), metavar="TRAINER", help="trainers")
    models.add_argument(
        "-p", dest="plans", nargs="+", default=default.plans, metavar="PLANS", help="default: nnUNetPlans"
    )
    models.add_argument(
        "-f", dest="folds", nargs="+", type=fold, default=default.folds, metavar="FOLD", help="default: 0 1 2 3 4"
    )

    folders = p.add_argument_group("predictions from elsewhere")
    folders.add_argument(
        "--folders",
        nargs="+",
        default=(),
        metavar="[NAME=]FOLDER",
        help="folders with a label map per case, named as the references; alone or beside trained models",
    )
    folders.add_argument(
        "--gt", dest="references", type=Path, metavar="FOLDER", help="references (default: those of the dataset)"
    )
    folders.add_argument(
        "--dataset_json",
        type=Path,
        metavar="FILE",
        help="labels and file ending (default: in the first folder, or beside --gt)",
    )

    rules = p.add_argument_group("metrics")
    rules.add_argument(
        "--empty",
        choices=EMPTY_RULES,
        default=default.empty,
        help="empty labels: nan leaves undefined values out, as nnU-Net does; brats gives an empty prediction of an "
        "empty reference 1 (and 0 mm), one without the other 0 (and 373.13 mm) (default: nan)",
    )
    rules.add_argument(
        "--nsd_tolerance",
        dest="nsd_tolerance_mm",
        type=float,
        default=default.nsd_tolerance_mm,
        metavar="MM",
        help="of NSD, in mm (default: %(default)g)",
    )
    rules.add_argument(
        "--lesion_iou",
        type=float,
        default=default.lesion_iou,
        metavar="IOU",
        help="from which lesions match (default: %(default)g)",
    )
    rules.add_argument(
        "--detection",
        nargs="+",
        default=(),
        metavar="LABEL",
        help="lesion AP, FROC and patient AUROC of these labels, from probabilities (--npz); needs the extra detection",
    )
    rules.add_argument(
        "--group-by",
        metavar="REGEX|CSV",
        help="the unit of the statistics is the subject: see nnUNetXModal_crossval, whose groups are the default",
    )
    rules.add_argument(
        "--allow-missing",
        action="store_true",
        help="go on with the cases that all have in the same fold; the report says what was left out",
    )
    p.add_argument(
        "--overlays", type=int, default=default.overlays, metavar="N", help="cases to draw (default: %(default)s)"
    )
    p.add_argument(
        "-np", dest="processes", type=positive, default=default_processes(), help="processes (default: %(default)s)"
    )
    return p


def request_of(args: argparse.Namespace) -> ComparisonRequest:
    """Return what the flags ask for.

    Raises:
        XModalError: see ComparisonRequest.
    """
    return ComparisonRequest(**request_fields(args))


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_compare`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.comparison.run import compare  # imports pandas and torch: not for --help

    compare(request)
    print(f"{request.output / 'report.html'}\n{request.output / 'summary.md'}")


if __name__ == "__main__":
    main()
