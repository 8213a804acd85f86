"""Tables 1 and 2 of Attention-Reg from the results of trainers and of registration_baselines.py.

    python benchmarks/tables/registration_table.py -d 951 -tr nnUNetTrainerAttentionReg MutualInformation --starts 10

Every single start is in `validation/summary.json`. A case's value is the mean over its first K starts, the same for
all rows, K being what the poorest row has or what `--starts` and `--exact_count` say. Printed is the mean over the
cases of all folds ± their standard deviation, and the share of single starts that end farther away than `--failure`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from nnunetv2.paths import nnUNet_results
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint

RANDOM = ("SRE_before_mm", "SRE_mm")


def starts_of(model: Path, folds: list) -> tuple[dict[str, dict[str, list[float]]], float]:
    """Read case → metric → SRE in mm of every start; and seconds per start."""
    cases, seconds = {}, []
    for number in folds:
        file = model / f"fold_{number}" / "validation" / "summary.json"
        if not file.is_file():
            raise XModalError(f"{file} is missing: train or measure fold {number} first, or leave it out of -f.")
        for case in json.loads(file.read_text(encoding="utf-8"))["metric_per_case"]:
            cases[Path(case["prediction_file"]).name] = case["starts"]
            seconds += [metrics["seconds"] for metrics in case["metrics"].values()]
    return cases, float(np.mean(seconds))


def parameters_of(model: Path, number: int | str) -> str:
    """Count those of a checkpoint's network; none for what is no network."""
    file = model / f"fold_{number}" / "checkpoint_final.pth"
    if not file.is_file():
        return "–"

    weights = read_checkpoint(file)["network_weights"]
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return f"{sum(value.numel() for name, value in weights.items() if not name.endswith(statistics)):,}"


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset, number or name")
    parser.add_argument("-tr", nargs="+", required=True, help="trainers and methods, a row each")
    parser.add_argument("-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    parser.add_argument("-p", default="nnUNetRegistrationPlans", help="plans")
    parser.add_argument("--starts", type=int, help="of every case in the range (default: as many as all rows have)")
    parser.add_argument("--exact_count", type=int, help="likewise, of every case and exact SRE")
    parser.add_argument("--failure", type=float, default=10.0, help="mm (default: 10)")
    args = parser.parse_args()
    results = Path(nnUNet_results) / maybe_convert_to_dataset_name(int(args.d) if args.d.isdecimal() else args.d)
    models = {name: results / f"{name}__{args.p}__3d_fullres" for name in args.tr}
    rows = {name: starts_of(model, args.f) for name, model in models.items()}
    cases = sorted(set.intersection(*(set(of_case) for of_case, _ in rows.values())))
    metrics = sorted({m for of_case, _ in rows.values() for values in of_case.values() for m in values} - set(RANDOM))
    counts = {
        metric: min(
            len(of_case[case][metric]) for of_case, _ in rows.values() for case in cases if metric in of_case[case]
        )
        for metric in (*RANDOM, *metrics)
    }
    for metric in counts:
        wanted = args.starts if metric in RANDOM else args.exact_count
        counts[metric] = min(counts[metric], wanted or counts[metric])
    print(f"{len(cases)} cases; starts per case: {counts}; failures: more than {args.failure:g} mm\n")
    print("| | " + " | ".join(f"{metric} | failures" for metric in ("SRE_mm", *metrics)) + " | parameters | ms |")
    print("|---|" + "--:|" * (2 * (1 + len(metrics)) + 2))
    for name, (of_case, seconds) in rows.items():
        cells = []
        for metric in ("SRE_mm", *metrics):
            if any(metric not in of_case[case] for case in cases):
                cells += ["–", "–"]
                continue
            values = np.array([of_case[case][metric][: counts[metric]] for case in cases])  # cases × starts
            means = values.mean(1)
            cells += [f"{means.mean():.2f} ± {means.std(ddof=1):.2f}", f"{(values > args.failure).mean():.1%}"]
        parameters = parameters_of(models[name], args.f[0])
        print(f"| {name} | " + " | ".join(cells) + f" | {parameters} | {1000 * seconds:.0f} |")


if __name__ == "__main__":
    main()
