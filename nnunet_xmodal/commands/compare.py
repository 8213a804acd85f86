"""`nnUNetXModal_compare`: cross-validation results side by side.

Metrics per case, statistics and a report for the validation results of several trainers, or for folders of predictions
from anywhere. What was computed before for the same files is not computed again.
"""

import argparse
from functools import partial
from pathlib import Path

from nnunet_xmodal.commands.argument_types import positive
from nnunet_xmodal.commands.field_flags import FieldFlags, description_of, request_from
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.comparison.request import BY, ComparisonRequest
from nnunet_xmodal.evaluation.empty_rules import EMPTY_RULES


def parser() -> argparse.ArgumentParser:
    """Build the parser: models by the flags of `nnUNetv2_train`, or folders of predictions."""
    p = argparse.ArgumentParser("nnUNetXModal_compare", description=description_of(__doc__))
    flags = FieldFlags(p, ComparisonRequest)
    flags.add("output", "gets report.html, summary.md and tables as CSV", "-o", type=Path, metavar="FOLDER")
    flags.add("overlays", "cases to draw", type=int, metavar="N")
    flags.add("viewer", "also a page for each of them that shows it in the browser; needs the extra viewer")
    flags.add("processes", "processes", "-np", type=positive, metavar="N")

    FieldFlags(p.add_argument_group("trained models"), ComparisonRequest).add_models()

    folders = FieldFlags(p.add_argument_group("predictions from elsewhere"), ComparisonRequest)
    folders.add(
        "folders",
        "folders with a label map per case, named as the references; alone or beside trained models",
        nargs="+",
        metavar="[NAME=]FOLDER",
    )
    folders.add("references", "references (default: those of the dataset)", "--gt", type=Path, metavar="FOLDER")
    folders.add(
        "dataset_json",
        "labels and file ending (default: in the first folder, or beside --gt)",
        type=Path,
        metavar="FILE",
    )

    rules = FieldFlags(p.add_argument_group("metrics"), ComparisonRequest)
    rules.add(
        "empty",
        "empty labels: nan leaves undefined values out, as nnU-Net does; brats gives an empty prediction of an empty "
        "reference 1 (and 0 mm), one without the other 0 (and 373.13 mm)",
        choices=EMPTY_RULES,
    )
    rules.add("nsd_tolerance_mm", "of NSD, in mm", "--nsd_tolerance", type=float, metavar="MM")
    rules.add("lesion_iou", "from which lesions match", type=float, metavar="IOU")
    rules.add(
        "detection",
        "lesion AP, FROC and patient AUROC of these labels, from probabilities (--npz); needs the extra detection",
        nargs="+",
        metavar="LABEL",
    )
    rules.add("calibration", "ECE, Brier score and reliability diagrams, from probabilities (--npz)")
    rules.add(
        "temperature",
        "with --calibration: fit a temperature per trained model on its validation cases, store it with the model for "
        "nnUNetXModal_predict --temperature, and tell what it is worth on the other folds",
    )
    rules.add(
        "group_by",
        "the unit of the statistics is the subject: see nnUNetXModal_crossval, whose groups are the default",
        "--group-by",
        metavar="REGEX|CSV",
    )
    rules.add(
        "by",
        "presence: means of the cases that have every channel, and of those that lack one or another, by missing.json",
        choices=BY,
    )
    rules.add(
        "allow_missing",
        "go on with the cases that all have in the same fold; the report says what was left out",
        "--allow-missing",
    )
    flags.add_groups()
    return p


request_of = partial(request_from, ComparisonRequest)
"""From what the parser returned to the request."""


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_compare`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.comparison.run import compare  # imports pandas and torch: not for --help

    compare(request)
    print(f"{request.output / 'report.html'}\n{request.output / 'summary.md'}")


if __name__ == "__main__":
    main()
