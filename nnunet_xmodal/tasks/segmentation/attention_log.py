"""`attention.json` of a fold, and the lines of the training's log about it."""

from pathlib import Path

from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json

FILE = "attention.json"


def add_to_log(folder: str | Path, entry: dict) -> dict:
    """Put further reports into a fold's file; return all that it holds now."""
    file = Path(folder) / FILE
    known = read_json(file) if file.is_file() else {}
    known |= entry
    write_json(known, file)
    return known


def sentence(when: str, report: dict) -> str:
    """Return a report as a line of the log.

    Args:
        when: "start" or "end".
        report: see `distillation_report`.
    """
    by_level = "; ".join(
        f"{what.replace('_', ' ')} {_printed(report[what])}"
        for what in ("effective_support", "peaks_in_a_corner", "foreground_mass")
    )
    return (
        f"Attention at the {when} of training: alpha*L_CSAD {report['alpha_L_CSAD']:.4g}, its gradient in the "
        f"streams {_printed(report['gradient_ratio'])} of the segmentation loss's, symmetric KL "
        f"{report['symmetric_kl']:.4g}, correlation {_printed(report['correlation'])}; from fine to coarse: {by_level}"
    )


def _printed(value: float | list | None) -> str:
    """With three digits, streams apart by a bar."""
    if value is None:
        return "?"
    if not isinstance(value, list):
        return f"{value:.3g}"
    return (" | " if isinstance(value[0], list) else " ").join(map(_printed, value))
