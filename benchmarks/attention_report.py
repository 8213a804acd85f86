"""Tables and figures of documentation/results from the folders that nnU-Net's trainings and our predictions left.

    python benchmarks/crossval_report.py -d 501 -c 2d_b8 -tr nnUNetTrainer_10epochs_25its … -o report
    python benchmarks/crossval_report.py -d 501 -c 2d_b8 -tr … -o report --attention SCFF=out_scff CSAD=out_csad

`report/` gets table.md (overlap, mean ± SD over folds; Dice per fold; agreement of the attention maps), dice.png, and
with `--attention` attention.png: the deepest level of both streams in each prediction folder, without the images.
"""

import argparse
import json
import os
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from matplotlib.colors import LogNorm  # noqa: E402
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name  # noqa: E402

from nnunet_xmodal.evaluation.overlap import fold_means, overlap_table, read_cases  # noqa: E402


def folds_of(model: Path, folds: list[int]) -> list:
    return [read_cases(model / f"fold_{fold}" / "validation" / "summary.json") for fold in folds]


def dice_per_fold(cases: dict, folds: list[int]) -> str:
    lines = ["| trainer | " + " | ".join(f"fold {fold}" for fold in folds) + " |", "|---" * (len(folds) + 1) + "|"]
    for trainer, per_fold in cases.items():
        values = [100 * fold_means(fold)["Dice"] for fold in per_fold]
        lines.append(f"| {trainer} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    return "\n".join(lines)


def dice_per_label(cases: dict) -> str:
    labels = sorted({label for per_fold in cases.values() for fold in per_fold for case in fold for label in case})
    lines = ["| trainer | " + " | ".join(labels) + " |", "|---" * (len(labels) + 1) + "|"]
    for trainer, per_fold in cases.items():
        cells = []
        for label in labels:
            means = []
            for fold in per_fold:
                values = [case[label]["Dice"] for case in fold if case[label]["Dice"] == case[label]["Dice"]]
                means.append(100 * statistics.fmean(values))
            sd = statistics.stdev(means) if len(means) > 1 else 0
            cells.append(f"{statistics.fmean(means):.1f} ± {sd:.1f}")
        lines.append(f"| {trainer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def attention_table(models: dict, folds: list[int]) -> str:
    lines = [
        "| trainer | fold | α·L_CSAD start → end | gradient ratio start → end | symmetric KL, validation cases |",
        "|---|---|---|---|---|",
    ]
    for trainer, model in models.items():
        for fold in folds:
            file = model / f"fold_{fold}" / "attention.json"
            if file.is_file():
                report = json.loads(file.read_text())
                start, end = report["start"], report["end"]
                lines.append(
                    f"| {trainer} | {fold} | {start['alpha_L_CSAD']:.3g} → {end['alpha_L_CSAD']:.3g} "
                    f"| {start['gradient_ratio']:.3g} → {end['gradient_ratio']:.3g} "
                    f"| {report['validation']['symmetric_kl']:.1f} |"
                )
    return "\n".join(lines)


def draw_dice(cases: dict, file: Path) -> None:
    labels = sorted({label for per_fold in cases.values() for fold in per_fold for case in fold for label in case})
    figure, axes = plt.subplots(1, len(labels), figsize=(3.2 * len(labels), 3.2), sharey=True, squeeze=False)
    for axis, label in zip(axes[0], labels):
        rows = [[case[label]["Dice"] for fold in per_fold for case in fold] for per_fold in cases.values()]
        for values in zip(*rows):  # a line per case: comparisons are paired
            axis.plot(range(len(rows)), values, "-o", color="0.6", markersize=3, linewidth=0.7)
        axis.plot(range(len(rows)), [statistics.fmean(row) for row in rows], "_", color="C3", markersize=22, mew=2.5)
        axis.set_title(label)
        axis.set_xticks(range(len(cases)), [short(name) for name in cases], rotation=30, ha="right")
        axis.set_ylim(0, 1)
    axes[0, 0].set_ylabel("Dice per case (red: mean)")
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def draw_attention(folders: dict[str, Path], file: Path) -> None:
    """Rows: cases. Columns: per folder the deepest level of every stream, on the slice of most foreground."""
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


def short(trainer: str) -> str:
    return trainer.split("_")[0].removeprefix("nnUNetTrainer") or "nnU-Net"


def main() -> None:
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
    cases = {trainer: folds_of(model, args.f) for trainer, model in models.items()}
    args.o.mkdir(parents=True, exist_ok=True)
    tables = [
        overlap_table(cases),
        dice_per_fold(cases, args.f),
        dice_per_label(cases),
        attention_table(models, args.f),
    ]
    (args.o / "table.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")
    draw_dice(cases, args.o / "dice.png")
    if args.attention:
        draw_attention(
            {item.split("=")[0]: Path(item.split("=")[1]) for item in args.attention}, args.o / "attention.png"
        )
    print(args.o / "table.md")


if __name__ == "__main__":
    main()
