"""Which fusion is worth its name: methods × regimes × seeds × folds on narrow networks, paired by case.

    python benchmarks/experiments/fusion_study.py prepare -o study --seeds 1 2 3 11 12 13
    python benchmarks/experiments/fusion_study.py train -o study --seeds 1 2 3 --folds 0 1 2 3 4 --part 0 2
    python benchmarks/experiments/fusion_study.py table -o study --choose 1 2 3 --confirm 11 12 13

`prepare` writes each regime's phantoms of each seed as a dataset of its own, 300 cases in five folds, and plans a
narrow 2d configuration. With `--data gliomas=nnUNet_raw/Dataset501_Glioma2Mod` a dataset of nnU-Net's is a regime, too,
in the folds that nnU-Net makes; its Dice is the mean over the labels that a case has. `train` trains in this process,
on one thread, what has no result yet; several calls with other `--part K N` share it. A training leaves one small JSON
file below `results/`, written when all of it is done, and an interrupted training starts again. `table` prints the
tables of `fusion_analysis.py`, from that folder or from the CSV file that `--csv` wrote of it.

The rule, written down before the first training that is reported. Baseline is concatenation (MultiStream). On the
seeds of the choice every method is measured; the two candidates (no controls) with the highest mean difference over all
trainings are confirmed, on seeds that nobody has looked at. A default is what on these is ahead of concatenation with a
95 % interval above 0 in at least two regimes and behind it by more than 0.5 points in none. Where nothing passes, plain
streams or stock nnU-Net are recommended, by the same rule between the two. Tables are of one length, `--steps`; a star
says that Wilcoxon's p is below 0.05 after Holm, over the methods and regimes of the table. The level of noise was set
on seed 90 by the baseline alone, so that its Dice lies between 60 and 85.
"""

import argparse
import json
import os
import random
import re
import shutil
from itertools import product
from pathlib import Path
from time import perf_counter

import numpy as np
import pandas as pd
from fusion_methods import METHODS, WIDTHS, method_of, named
from fusion_phantoms import REGIMES, folds_of, write_study_dataset

CASES = 300
BATCH = 4
STEPS_PER_EPOCH = 250
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
CONFIGURATION = "2d"


def dataset_name(regime: str, seed: int, source: Path | None = None) -> str:
    """Return a dataset's name; that of phantoms has a number of regime and seed, for seeds from 0 to 99."""
    return source.name if source else f"Dataset{list(REGIMES).index(regime) + 1}{seed:02d}_{regime}"


def prepare(root: Path, regime: str, seed: int, source: Path | None = None) -> None:
    """Write a regime's phantoms, or link a dataset's files, plan and preprocess them, unless that was done before."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    name = dataset_name(regime, seed, source)
    done = root / "nnUNet_preprocessed" / name / "prepared"
    if done.exists():
        return
    if source is None:
        write_study_dataset(root / "nnUNet_raw" / name, REGIMES[regime], CASES, seed)
    else:
        shutil.copytree(source, root / "nnUNet_raw" / name, copy_function=os.symlink)
    number = int(name[7:10])
    api.extract_fingerprint_dataset(number, num_processes=1)
    api.plan_experiment_dataset(number)
    plans = json.loads((done.parent / "nnUNetPlans.json").read_text())
    settings = plans["configurations"][CONFIGURATION]
    planned = settings["architecture"]["arch_kwargs"]
    for plans_name, widths in WIDTHS.items():
        settings |= {"batch_size": BATCH, "data_identifier": "Study_2d"}
        settings["architecture"]["arch_kwargs"] = planned | _narrow(planned, widths)
        plans["plans_name"] = plans_name
        (done.parent / f"{plans_name}.json").write_text(json.dumps(plans))
    api.preprocess_dataset(number, next(iter(WIDTHS)), (CONFIGURATION,), num_processes=[1])
    if source is None:
        cases = sorted(path.name.split(".")[0] for path in (done.parent / "gt_segmentations").iterdir())
        (done.parent / "splits_final.json").write_text(json.dumps(folds_of(REGIMES[regime], cases)))
    done.touch()


def _narrow(architecture: dict, widths: tuple[int, ...]) -> dict:
    """Keep the first levels of a planned architecture, as many as there are widths."""
    levels = len(widths)
    kept = {
        name: architecture[name][: levels - (name == "n_conv_per_stage_decoder")]
        for name in ("kernel_sizes", "strides", "n_conv_per_stage", "n_conv_per_stage_decoder")
    }
    return {**kept, "n_stages": levels, "features_per_stage": list(widths)}


def result_file(root: Path, regime: str, seed: int, fold: int, method: str, steps: int) -> Path:
    """Return where the result of a training is, or will be."""
    return root / "results" / regime / f"{method.replace(' ', '_')}_seed{seed}_fold{fold}_{steps}steps.json"


def train(root: Path, regime: str, seed: int, fold: int, name: str, steps: int, source: Path | None = None) -> None:
    """Train and validate one fold, from random numbers that only seed, fold and draw decide; skip what is finished."""
    import torch

    file = result_file(root, regime, seed, fold, name, steps)
    if file.is_file():
        return
    method = method_of(name)
    preprocessed = root / "nnUNet_preprocessed" / dataset_name(regime, seed, source)
    plans = json.loads((preprocessed / f"{method.plans}.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(method.draw + 1000 * seed + fold)
    began = perf_counter()
    trainer = method.trainer_class()(plans, CONFIGURATION, fold, dataset_json, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = steps // STEPS_PER_EPOCH, STEPS_PER_EPOCH
    trainer.num_val_iterations_per_epoch = 1
    trainer.disable_checkpointing = True
    trainer.print_to_log_file = lambda *words, **options: None
    # every case is seen once as it is, and the divergence of validation cases is of no use here
    trainer._report_validation_attention = lambda: None
    torch.set_num_threads(1)
    trainer.run_training()
    trained = perf_counter()
    trainer.inference_allowed_mirroring_axes = None
    torch.set_num_threads(1)
    trainer.perform_actual_validation()
    output = Path(trainer.output_folder)
    per_case = json.loads((output / "validation" / "summary.json").read_text())["metric_per_case"]
    dice = {Path(case["reference_file"]).name.split(".")[0]: mean_dice(case["metrics"]) for case in per_case}
    attention = output / "attention.json"
    result = {
        "regime": regime,
        "seed": seed,
        "fold": fold,
        "method": name,
        "steps": steps,
        "dice": {case: round(dice[case], 2) for case in sorted(dice)},
        "training_seconds": round(trained - began, 1),
        "parameters": sum(p.numel() for p in trainer.network.parameters()),
        "losses": [round(float(loss), 4) for loss in trainer.logger.get_value("train_losses", step=None)],
        "attention": json.loads(attention.read_text()) if attention.is_file() else None,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(result))
    temporary.replace(file)
    shutil.rmtree(output)
    print(
        f"{regime}, seed {seed}, fold {fold}, {name}: Dice {np.mean(list(dice.values())):.1f}, "
        f"{trained - began:.0f} s of training, {perf_counter() - trained:.0f} s of validation",
        flush=True,
    )


def mean_dice(metrics: dict) -> float:
    """Return the mean over the labels of a case, in percent; of what neither prediction nor reference has there is
    none.
    """
    return float(100 * np.nanmean([of_label["Dice"] for of_label in metrics.values()]))


def regime_and_folder(text: str) -> tuple[str, Path]:
    """Return NAME and FOLDER of `NAME=FOLDER`, a dataset in nnU-Net's raw format."""
    name, _, folder = text.partition("=")
    if not name.isalnum() or name in REGIMES:
        raise argparse.ArgumentTypeError(f"{text}: NAME is letters and digits, and none of {', '.join(REGIMES)}.")
    source = Path(folder).resolve()
    if not (source / "dataset.json").is_file():
        raise argparse.ArgumentTypeError(f"{text}: {folder or 'FOLDER'} has no dataset.json.")
    if not re.match(r"Dataset[5-9]\d\d_", source.name):
        raise argparse.ArgumentTypeError(
            f"{text}: call it Dataset500_… to Dataset999_…, the phantoms have numbers below."
        )
    return name, source


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["prepare", "train", "table"])
    parser.add_argument("-o", dest="root", type=Path, required=True, metavar="FOLDER", help="of the study")
    parser.add_argument("--regimes", nargs="+", help=f"default: {', '.join(REGIMES)} and those of --data")
    parser.add_argument(
        "--data", nargs="+", type=regime_and_folder, default=[], metavar="NAME=FOLDER", help="raw datasets as regimes"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="of phantoms and trainings")
    parser.add_argument("--folds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), help="methods, trainers or groups as @fusion")
    parser.add_argument("--steps", type=int, default=1000, help=f"of trainings and tables, n·{STEPS_PER_EPOCH}")
    parser.add_argument("--part", nargs=2, type=int, default=(0, 1), metavar=("K", "N"), help="every N-th, from K")
    parser.add_argument("--choose", nargs="+", type=int, default=[1, 2], help="seeds of the choice, for the table")
    parser.add_argument("--confirm", nargs="+", type=int, default=[11, 12], help="fresh seeds, for the table")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="of the Dice of every case, and FILE_trainings.csv")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="of the gains, a PNG")
    parser.add_argument("--ranking", action="store_true", help="print all methods of --regimes by their Dice")
    parser.add_argument("--known", type=Path, metavar="FILE", help="a table of before: not trained again, but shown")
    args = parser.parse_args()
    root, of_users = args.root.resolve(), dict(args.data)
    known_regimes = [*REGIMES, *of_users]
    args.regimes = args.regimes or known_regimes
    for regime in args.regimes:
        if regime not in known_regimes:
            parser.error(f"--regimes {regime}: there are {', '.join(known_regimes)}; --data adds others.")
    if args.what == "table":
        from fusion_analysis import differences, read_results, read_trainings, report, write_table

        results = read_results(root)
        if args.known:
            results = pd.concat([read_results(args.known), results], ignore_index=True)
        if args.csv:
            write_table(results, args.csv)
            beside = args.csv.with_name(f"{args.csv.stem}_trainings.csv")
            trainings = read_trainings(root)
            if args.known:
                known = args.known.with_name(f"{args.known.stem}_trainings.csv")
                trainings = pd.concat([pd.read_csv(known), trainings], ignore_index=True)
            trainings.to_csv(beside, index=False, float_format="%.3f")
        results = results[results["steps"] == args.steps]
        if args.ranking:
            from fusion_ranking import ranking, ranking_as_markdown

            of_regimes = results[results["regime"].isin(args.regimes) & results["seed"].isin(args.seeds)]
            print(ranking_as_markdown(ranking(of_regimes, read_trainings(root))))
            return
        if args.figure:
            from fusion_figure import draw

            seeds = {"choice": args.choose, "confirmation": args.confirm}
            draw({group: differences(results[results["seed"].isin(of)]) for group, of in seeds.items()}, args.figure)
        print(report(results, args.choose, args.confirm))
        return
    for variable in VARIABLES:
        (root / variable).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(root / variable)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "false"}
    from nnunet_xmodal import discovery
    from nnunet_xmodal.demo.in_process import loading_in_this_thread, pools_of_threads

    discovery.register()
    if args.what == "prepare":
        with pools_of_threads():
            for regime, seed in product(args.regimes, args.seeds):
                prepare(root, regime, seed, of_users.get(regime))
        return
    # planning would fail with this value
    os.environ["nnUNet_n_proc_DA"] = "0"
    # folds before methods: what is finished is comparable whenever it is looked at
    jobs = list(product(args.seeds, args.folds, args.regimes, named(args.methods)))
    if args.known:
        known = pd.read_csv(args.known)
        known = set(
            known.loc[known["steps"] == args.steps, ["seed", "fold", "regime", "method"]].itertuples(index=False)
        )
        jobs = [job for job in jobs if job not in known]
    with pools_of_threads(), loading_in_this_thread():
        for seed, fold, regime, name in jobs[args.part[0] :: args.part[1]]:
            train(root, regime, seed, fold, name, args.steps, of_users.get(regime))


if __name__ == "__main__":
    main()
