"""Trainings on incomplete cases, measured on every subset of the channels, with paired statistics.

    python benchmarks/experiments/incomplete_cohorts.py make -d 501 -o Dataset511_GliomaIncomplete --lose T1c FLAIR
    nnUNetXModal_plan_and_preprocess -d 511 -c 2d --allow_missing
    nnUNetXModal_crossval -d 511 -c 2d -tr nnUNetTrainerChannelDropout nnUNetTrainerMultiStreamDropout
    python benchmarks/experiments/incomplete_cohorts.py split -d 501 --from 511
    nnUNetXModal_crossval -d 501 -c 2d -tr nnUNetTrainerChannelDropout nnUNetTrainerMultiStreamDropout
    python benchmarks/experiments/incomplete_cohorts.py measure -d 501 --trained_on 511 -c 2d -o subsets \\
        -tr nnUNetTrainerChannelDropout nnUNetTrainerMultiStreamDropout

`make` links a complete dataset, of whose cases as many lack each of the channels of --lose, a third unless --share says
otherwise, never two of them. `split` gives the complete dataset the folds of the incomplete one. `measure` predicts the
complete images of every fold's validation cases with each of the 2^n − 1 subsets of their channels, by models of the
same fold, and those of each trainer's twin, which was trained on the complete dataset, with all channels. With --cmft
trainers of --stock get what it makes of the other stream.

Writes `cases.csv`, `subsets.csv` (a row per trainer, subset and label), `statistics.csv` (paired comparisons of
trainers, of every subset and of the mean over subsets per case, for every label and the mean over those that all
trainers have a value of), `subsets.png`, and prints the tables as far as they are about Dice.
Predictions stay in the output folder, and the same command goes on where it was interrupted.
"""

import argparse
import os
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from incomplete_figure import draw
from missing_modality import Row, predict_row
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import case_table
from nnunet_xmodal.comparison.cross_validation import ModelResults, read_predictions
from nnunet_xmodal.comparison.report.tables import frame_table
from nnunet_xmodal.datasets.presence import write_missing
from nnunet_xmodal.datasets.split_file import read_split_file
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings
from nnunet_xmodal.evaluation.empty_labels import with_rule
from nnunet_xmodal.evaluation.statistics import compare_all
from nnunet_xmodal.evaluation.summary import summarise
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.json_files import read_json

MEAN = "mean over subsets"
OVER_LABELS = "mean over labels"
METRICS = ("Dice", "HD95")
TWIN = " (complete training)"


def folder_of(variable: str, dataset: str) -> Path:
    """Return where nnU-Net keeps a dataset, by its number or name."""
    name = maybe_convert_to_dataset_name(int(dataset) if dataset.isdecimal() else dataset)
    return Path(os.environ[variable]) / name


def lost(cases: Sequence[str], names: Sequence[str], share: float, seed: int) -> dict[str, list[str]]:
    """Return case → the channel that it loses, of as many cases for each channel."""
    order = np.random.default_rng(seed).permutation(sorted(cases)).tolist()
    each = round(share * len(cases))
    if each * len(names) > len(cases):
        raise XModalError(
            f"--share {share:g} of {len(cases)} cases for each of {len(names)} channels is more than all."
        )
    return {case: [name] for n, name in enumerate(names) for case in order[n * each : (n + 1) * each]}


def make(args: argparse.Namespace) -> None:
    """Write links to a dataset, without the channels that cases lose."""
    raw, made = folder_of("nnUNet_raw", args.d), Path(os.environ["nnUNet_raw"]) / args.o
    described = read_json(raw / "dataset.json")
    names, ending = channel_names_of(described), described["file_ending"]
    unknown = [name for name in args.lose if name not in names]
    if unknown:
        raise XModalError(f"--lose names {unknown[0]}: the channels of {raw.name} are {', '.join(names)}.")
    cases = [file.name.removesuffix(ending) for file in (raw / "labelsTr").glob(f"*{ending}")]
    missing = lost(cases, args.lose, args.share, args.seed)
    absent = {f"{case}_{names.index(name):04d}{ending}" for case, (name,) in missing.items()}
    for part in ("imagesTr", "labelsTr"):
        (made / part).mkdir(parents=True)
        for file in sorted((raw / part).glob(f"*{ending}")):
            if file.name not in absent:
                (made / part / file.name).symlink_to(file.resolve())
    write_missing(missing, made)
    write_json(described, made / "dataset.json")
    print(f"{made}: {len(missing)} of {len(cases)} cases lack one of {', '.join(args.lose)}.")


def split(args: argparse.Namespace) -> None:
    """Write the folds of the incomplete dataset into the complete one."""
    source = folder_of("nnUNet_preprocessed", getattr(args, "from")) / "splits_final.json"
    target = folder_of("nnUNet_preprocessed", args.d) / "splits_final.json"
    folds = read_split_file(source)
    if target.is_file() and read_split_file(target) != folds:
        raise XModalError(f"{target} is another split than {source}: move it away, and what was trained on it.")
    write_json(folds, target)


def subsets(n_channels: int) -> Iterator[tuple[int, ...]]:
    """Yield what is missing: nothing, then one channel, and so on to all but one."""
    for n_missing in range(n_channels):
        yield from combinations(range(n_channels), n_missing)


def predictions(args: argparse.Namespace, raw: Path) -> dict[tuple[str, str], ModelResults]:
    """Predict what is not predicted yet; return (trainer, subset in words) → its predictions."""
    described = read_json(raw / "dataset.json")
    names = channel_names_of(described)
    incomplete = folder_of("nnUNet_raw", args.trained_on).name
    folds = read_split_file(folder_of("nnUNet_preprocessed", args.trained_on) / "splits_final.json")
    found: dict[tuple[str, str], ModelResults] = {}
    todo = [(trainer, missing, "left out") for trainer in args.tr for missing in subsets(len(names))]
    if args.cmft:
        todo += [(args.stock, missing, "imputed") for missing in subsets(len(names))]
    for trainer, missing, instead in todo:
        row = Row(trainer, missing, instead if missing else "")
        subset = " ".join(name for number, name in enumerate(names) if number not in missing)
        folder = predict_row(row, names, raw, folds, args, incomplete)
        found[trainer, subset] = read_predictions(f"{trainer}|{subset}", folder, described)
    output = args.o
    twins = args.tr if args.twins == [] else args.twins or []
    for trainer in twins:
        args.o = output / "twins"
        folder = predict_row(Row(trainer), names, raw, folds, args)
        found[trainer + TWIN, " ".join(names)] = read_predictions(f"{trainer}{TWIN}|", folder, described)
    args.o = output
    return found


def with_mean_over_labels(part: pd.DataFrame) -> pd.DataFrame:
    """Add the mean of each case over its labels; over those that are defined for all models, where some are empty."""
    of_label = ["case", "label"]
    defined = part.groupby(of_label)["Dice"].transform(lambda values: values.notna().all())
    of_case = ["model", "fold", "case", "subject"]
    means = part[defined].groupby(of_case, as_index=False, sort=False)[list(METRICS)].mean()
    return pd.concat([part, means.assign(label=OVER_LABELS, empty="")], ignore_index=True)


def measure(args: argparse.Namespace) -> None:
    """Predict, and compare trainers on every subset and on the mean over subsets."""
    raw = folder_of("nnUNet_raw", args.d)
    found = predictions(args, raw)
    folds = read_split_file(folder_of("nnUNet_preprocessed", args.trained_on) / "splits_final.json")
    fold_of = {case: str(number) for number in args.f for case in folds[number]["val"]}
    cache = CaseCache(args.o / "cache")
    table, metrics = case_table(
        [*found.values()], sorted(fold_of), raw / "labelsTr", MetricSettings(), cache, args.processes
    )
    table = with_rule(table, args.empty, metrics)
    keys = {results.name: key for key, results in found.items()}
    table["subset"] = [keys[name][1] for name in table["model"]]
    table["model"] = [keys[name][0] for name in table["model"]]
    table["fold"] = table["case"].map(fold_of)
    draw(table, args.o / "subsets.png")
    of_cases = ["model", "fold", "case", "subset", "label", *METRICS]
    table[of_cases].round(4).to_csv(args.o / "cases.csv", index=False)
    chosen = {name: metrics[name] for name in METRICS}
    whole = next(subset for trainer, subset in found if trainer == args.tr[0])
    mean = (
        table[~table["model"].str.endswith(TWIN)]
        .groupby(["model", "fold", "case", "subject", "label"], as_index=False, sort=False)[list(METRICS)]
        .mean()
    )
    parts = {subset: of_subset for subset, of_subset in table.groupby("subset", sort=False)}
    parts[MEAN] = mean.assign(empty="", subset=MEAN)
    summaries, statistics = [], []
    for subset, part in parts.items():
        summaries.append(summarise(part, chosen).assign(subset=subset))
        statistics.append(compare_all(with_mean_over_labels(part), chosen).assign(subset=subset))
    summary, compared = pd.concat(summaries), pd.concat(statistics)
    summary.to_csv(args.o / "subsets.csv", index=False)
    compared.to_csv(args.o / "statistics.csv", index=False)
    dice = summary[summary["metric"] == "Dice"]
    shown = dice.pivot_table("mean", ["model", "label"], "subset", sort=False).reset_index()
    print(f"Mean Dice of {len(fold_of)} cases by the channels that there are\n\n{frame_table(shown, {})}\n")
    pairs = compared[(compared["metric"] == "Dice") & (compared["test"] == "wilcoxon")]
    pairs = pairs[pairs["subset"].isin([MEAN, whole])]
    columns = ["subset", "label", "model_a", "model_b", "n", "mean_difference", "mean_low", "mean_high", "p", "p_holm"]
    print(f"Paired differences A − B\n\n{frame_table(pairs[columns], {})}")


@one_sentence_errors
def main() -> None:
    """Run one of the three steps; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    of_make = steps.add_parser("make", help="an incomplete dataset of a complete one")
    of_make.add_argument("-d", required=True, help="complete dataset, number or name")
    of_make.add_argument("-o", required=True, metavar="DATASET", help="name of the incomplete one")
    of_make.add_argument("--lose", nargs="+", required=True, metavar="CHANNEL", help="channels that cases lose")
    of_make.add_argument("--share", type=float, default=1 / 3, help="of the cases, for each channel (default: 1/3)")
    of_make.add_argument("--seed", type=int, default=0)
    of_make.set_defaults(run=make)
    of_split = steps.add_parser("split", help="the folds of the incomplete dataset for the complete one")
    of_split.add_argument("-d", required=True, help="complete dataset")
    of_split.add_argument("--from", required=True, help="incomplete dataset")
    of_split.set_defaults(run=split)
    measured = steps.add_parser("measure", help="all subsets of the channels, by models of all folds")
    measured.add_argument("-d", required=True, help="complete dataset, whose images are predicted")
    measured.add_argument("--trained_on", required=True, help="incomplete dataset, which the models were trained on")
    measured.add_argument("-c", default="2d", help="configuration (default: 2d)")
    measured.add_argument("-p", default="nnUNetPlans", help="plans")
    measured.add_argument("-f", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    measured.add_argument("-tr", nargs="+", required=True, help="trainers that take incomplete cases")
    measured.add_argument(
        "--twins",
        nargs="*",
        metavar="TRAINER",
        help="the same trainers (or these of them), trained on the complete dataset, too",
    )
    measured.add_argument("--stock", default="nnUNetTrainer", help="trainer that is given what --cmft makes")
    measured.add_argument("--cmft", help="trainer that makes a stream of the other, e.g. nnUNetTrainerCMFTUnpaired")
    measured.add_argument("--cmft_c", help="its configuration (default: that of -c)")
    measured.add_argument("--empty", default="nan", choices=["nan", "brats"], help="rule for empty labels")
    measured.add_argument("--processes", type=int, default=1, help="that compute metrics")
    measured.add_argument("--disable_tta", action="store_true", help="no mirroring, as nnUNetXModal_predict has it")
    measured.add_argument("-device", default="cuda", choices=["cpu", "cuda", "mps"])
    measured.add_argument("-o", type=Path, required=True, help="folder of predictions and tables")
    measured.set_defaults(run=measure)
    args = parser.parse_args()
    require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    args.run(args)


if __name__ == "__main__":
    main()
