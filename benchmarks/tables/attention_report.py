"""Table and figure of attention maps in documentation/results, from what trainings and predictions left.

    python benchmarks/tables/attention_report.py -d 501 -c 2d_b8 -tr nnUNetTrainerCSAD_10epochs_25its … -o report
    python benchmarks/tables/attention_report.py -d 501 -c 2d_b8 -tr … -o report --attention SCFF=out_scff CSAD=out_csad

`report/` gets attention.md, the agreement of the maps per fold, and with `--attention` attention.png: the deepest
level of both streams in each folder of `nnUNetXModal_predict --attention_maps`, without the images. Scores are the
matter of nnUNetXModal_compare.
"""

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name  # noqa: E402


def attention_table(models: dict, folds: list[int]) -> str:
    """Return Markdown: a row per trainer and fold."""
    lines = [
        "| trainer | fold | α·L_CSAD start → end | gradient ratio start → end | correlation start → end "
        "| foreground mass, median map | maps that peak in a corner | alive | symmetric KL, validation cases |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for trainer, model in models.items():
        for fold in folds:
            file = model / f"fold_{fold}" / "attention.json"
            if file.is_file():
                report = json.loads(file.read_text())
                start, end = report["start"], report["end"]
                changes = [
                    f"{_number(start.get(key))} → {_number(end.get(key))}"
                    for key in ("alpha_L_CSAD", "gradient_ratio", "correlation")
                ]
                cells = [trainer, str(fold), *changes, _number(_of_maps(median, end.get("foreground_mass")))]
                cells += [_number(_of_maps(mean, end.get("peaks_in_a_corner"))), str(report.get("alive", "?"))]
                lines.append(f"| {' | '.join(cells)} | {report['validation']['symmetric_kl']:.1f} |")
    return "\n".join(lines)


def _of_maps(statistic: Callable[[list[float]], float], per_stream: list[list[float]] | None) -> float | None:
    return None if per_stream is None else statistic([value for stream in per_stream for value in stream])


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"


def draw_attention(folders: dict[str, Path], file: Path) -> None:
    """Draw a row per case, and per folder the deepest level of every stream, on the slice of most foreground."""
    columns = []
    for name, folder in folders.items():
        maps = sorted((folder / "attention_maps").glob("*_stream*_level*.nii.gz"))
        deepest = max(int(path.name.split("_level")[1].split(".")[0]) for path in maps)
        streams = sorted({int(path.name.split("_stream")[1].split("_")[0]) for path in maps})
        columns += [(name, folder, stream, deepest) for stream in streams]
    first = next(iter(folders.values()))
    cases = sorted(path.name.removesuffix(".nii.gz") for path in first.glob("*.nii.gz"))
    figure, axes = plt.subplots(len(cases), len(columns), figsize=(2.4 * len(columns), 2.6 * len(cases)), squeeze=False)
    for row, case in zip(axes, cases):
        for axis, (name, folder, stream, level) in zip(row, columns):
            predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}.nii.gz")))
            z = int((predicted > 0).sum((1, 2)).argmax())
            path = folder / "attention_maps" / f"{case}_stream{stream}_level{level}.nii.gz"
            attention = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[z]
            shown = axis.imshow(attention.clip(1e-2), cmap="magma", norm=LogNorm(1e-2, 100))
            axis.contour(predicted[z] > 0, [0.5], colors="tab:cyan", linewidths=0.8)
            axis.set_title(f"{name}, stream {stream}\nlevel {level}", fontsize=8)
            axis.set_xticks([]), axis.set_yticks([])
        row[0].set_ylabel(f"{case}, slice {z}", fontsize=8)
    figure.colorbar(shown, ax=axes, shrink=0.6, label="attention, 1 = uniform")
    figure.savefig(file, dpi=130, bbox_inches="tight")


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True)
    parser.add_argument("-c", required=True)
    parser.add_argument("-p", default="nnUNetPlans")
    parser.add_argument("-tr", nargs="+", required=True)
    parser.add_argument("-f", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("-o", type=Path, required=True)
    parser.add_argument("--attention", nargs="*", default=[], metavar="NAME=FOLDER")
    args = parser.parse_args()
    results = Path(os.environ["nnUNet_results"]) / maybe_convert_to_dataset_name(args.d)
    models = {trainer: results / f"{trainer}__{args.p}__{args.c}" for trainer in args.tr}
    args.o.mkdir(parents=True, exist_ok=True)
    (args.o / "attention.md").write_text(attention_table(models, args.f) + "\n", encoding="utf-8")
    if args.attention:
        draw_attention(
            {item.split("=")[0]: Path(item.split("=")[1]) for item in args.attention}, args.o / "attention.png"
        )
    print(args.o / "attention.md")


if __name__ == "__main__":
    main()
