"""Which fusion is worth its name: trainers × regimes × seeds × folds on narrow networks, paired.

    python benchmarks/experiments/fusion_study.py prepare -o study --regimes aligned shifted --seeds 1 2 3
    python benchmarks/experiments/fusion_study.py train -o study --regimes aligned shifted --seeds 1 2 3 \
        --trainers nnUNetTrainerMultiStream nnUNetTrainerSCFF nnUNetTrainerCSAD --part 0 2
    python benchmarks/experiments/fusion_study.py table -o study --seeds 1 2 3

`prepare` writes each regime's phantoms of each seed as a dataset of its own and plans a narrow 2d configuration for it.
`train` trains in this process, one thread, what is not finished yet; several calls with other `--part K N` share it.
`table` prints the mean Dice over validation cases, and of every trainer and regime the difference to the baseline:
its mean over trainings (seed × fold, the unit), the 95 % interval by Student's t, and in how many it is ahead.

The rule, written down before the first training: choose on seeds 1 to 3, confirm on others. A default is what is ahead
of concatenation (nnUNetTrainerMultiStream) with a 95 % interval above 0 in at least two regimes, and behind it by more
than 0.5 points in none.
"""

import argparse
import json
import os
import random
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from fusion_phantoms import REGIMES, folds_of, write_study_dataset
from scipy import stats

BASELINE = "nnUNetTrainerMultiStream"
CASES = 60
WIDTHS = (16, 32, 64, 128)
BATCH = 4
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
PLANS, CONFIGURATION = "nnUNetPlans", "2d"


def dataset_name(regime: str, seed: int) -> str:
    """Return the dataset's name; its number holds regime and seed, for seeds from 0 to 99."""
    return f"Dataset{list(REGIMES).index(regime) + 1}{seed:02d}_{regime}"


def prepare(root: Path, regime: str, seed: int) -> None:
    """Write, plan and preprocess a regime's phantoms, unless that was done before."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    name = dataset_name(regime, seed)
    done = root / "nnUNet_preprocessed" / name / "prepared"
    if done.exists():
        return
    write_study_dataset(root / "nnUNet_raw" / name, REGIMES[regime], CASES, seed)
    number = int(name[7:10])
    api.extract_fingerprint_dataset(number, num_processes=1)
    api.plan_experiment_dataset(number)
    file = done.parent / f"{PLANS}.json"
    plans = json.loads(file.read_text())
    settings = plans["configurations"][CONFIGURATION]
    settings["batch_size"] = BATCH
    settings["architecture"]["arch_kwargs"] |= _narrow(settings["architecture"]["arch_kwargs"])
    file.write_text(json.dumps(plans))
    api.preprocess_dataset(number, PLANS, (CONFIGURATION,), num_processes=[1])
    cases = sorted(path.name.split(".")[0] for path in (done.parent / "gt_segmentations").iterdir())
    (done.parent / "splits_final.json").write_text(json.dumps(folds_of(REGIMES[regime], cases)))
    done.touch()


def _narrow(architecture: dict) -> dict:
    """Keep the first levels of a planned architecture, as many as there are widths."""
    levels = len(WIDTHS)
    kept = {
        name: architecture[name][: levels - (name == "n_conv_per_stage_decoder")]
        for name in ("kernel_sizes", "strides", "n_conv_per_stage", "n_conv_per_stage_decoder")
    }
    return {**kept, "n_stages": levels, "features_per_stage": list(WIDTHS)}


def train(root: Path, regime: str, seed: int, fold: int, trainer: str, epochs: int, iterations: int) -> None:
    """Train and validate one fold, from random numbers that only seed and fold decide; skip what is finished."""
    import torch

    from nnunet_xmodal import trainers

    name = dataset_name(regime, seed)
    of_length = f"{trainer}_{epochs}epochs_{iterations}its"
    summary = _fold(root, name, of_length, fold) / "validation" / "summary.json"
    if summary.is_file():
        return
    preprocessed = root / "nnUNet_preprocessed" / name
    plans = json.loads((preprocessed / f"{PLANS}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(1000 * seed + fold)
    began = perf_counter()
    made = getattr(trainers, of_length)(plans, CONFIGURATION, fold, dataset_json, torch.device("cpu"))
    made.num_val_iterations_per_epoch = 1
    made.save_every = epochs
    made.print_to_log_file = lambda *words, **options: None
    torch.set_num_threads(1)
    made.run_training()
    trained = perf_counter()
    torch.set_num_threads(1)
    made.perform_actual_validation()
    dice = json.loads(summary.read_text())["foreground_mean"]["Dice"]
    print(
        f"{regime}, seed {seed}, fold {fold}, {trainer}: Dice {100 * dice:.1f}, {trained - began:.0f} s of training, "
        f"{perf_counter() - trained:.0f} s of validation",
        flush=True,
    )


def _fold(root: Path, dataset: str, trainer: str, fold: int) -> Path:
    return root / "nnUNet_results" / dataset / f"{trainer}__{PLANS}__{CONFIGURATION}" / f"fold_{fold}"


def read(root: Path, args: argparse.Namespace) -> pd.DataFrame:
    """Return a row per finished training: regime, seed, fold, trainer, Dice in percent over its validation cases."""
    rows = []
    for regime, seed, fold, trainer in product(args.regimes, args.seeds, args.folds, args.trainers):
        of_length = f"{trainer}_{args.epochs}epochs_{args.iterations}its"
        file = _fold(root, dataset_name(regime, seed), of_length, fold) / "validation" / "summary.json"
        if file.is_file():
            dice = 100 * json.loads(file.read_text())["foreground_mean"]["Dice"]
            rows.append((regime, seed, fold, trainer.removeprefix("nnUNetTrainer") or "nnU-Net", dice))
    return pd.DataFrame(rows, columns=["regime", "seed", "fold", "trainer", "Dice"])


def table(results: pd.DataFrame) -> str:
    """Return a Markdown table of means, and of paired differences to the baseline with 95 % intervals."""
    lines = [
        "| regime | trainer | trainings | Dice | − concatenation | 95 % | ahead | p |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    baseline = BASELINE.removeprefix("nnUNetTrainer")
    for regime, of_regime in results.groupby("regime", sort=False):
        wide = of_regime.pivot(index=["seed", "fold"], columns="trainer", values="Dice")
        for trainer in wide:
            pairs = wide[[trainer, baseline]].dropna() if trainer != baseline else wide[[baseline]].dropna()
            row = f"| {regime} | {trainer} | {len(pairs)} | {pairs[trainer].mean():.1f} "
            if trainer == baseline or len(pairs) < 2:
                lines.append(row + "| | | | |")
                continue
            difference = pairs[trainer] - pairs[baseline]
            error = stats.sem(difference)
            low, high = stats.t.interval(0.95, len(pairs) - 1, difference.mean(), error)
            p = stats.ttest_1samp(difference, 0).pvalue
            ahead = int((difference > 0).sum())
            lines.append(f"{row}| {difference.mean():+.1f} | {low:+.1f} … {high:+.1f} | {ahead} | {p:.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train", "table"])
    parser.add_argument("-o", dest="root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--regimes", nargs="+", choices=REGIMES, default=list(REGIMES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of phantoms and trainings")
    parser.add_argument("--folds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--trainers", nargs="+", default=["nnUNetTrainer", BASELINE])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--iterations", type=int, default=250)
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th, from K")
    args = parser.parse_args()
    root = args.root.resolve()
    if args.what == "table":
        print(table(read(root, args)))
        return
    for variable in VARIABLES:
        (root / variable).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(root / variable)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "false"}
    from nnunet_xmodal import discovery

    discovery.register()
    if args.what == "prepare":
        for regime, seed in product(args.regimes, args.seeds):
            prepare(root, regime, seed)
        return
    from nnunet_xmodal.demo.in_process import pools_of_threads

    # planning would fail with this value
    os.environ["nnUNet_n_proc_DA"] = "0"
    # folds before trainers: what is finished is comparable whenever it is looked at
    jobs = list(product(args.seeds, args.folds, args.regimes, args.trainers))
    with pools_of_threads():
        for seed, fold, regime, trainer in jobs[args.part[0] :: args.part[1]]:
            train(root, regime, seed, fold, trainer, args.epochs, args.iterations)


if __name__ == "__main__":
    main()
