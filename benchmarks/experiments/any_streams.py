"""What a model for any of its streams costs where all are there: the demo's phantoms, one training after the other.

    python benchmarks/experiments/any_streams.py -o streams --seeds 101 102 103 --folds 0 1
    python benchmarks/experiments/any_streams.py -o streams --table

A seed is 20 phantoms, of which a fold trains on 16 as in `nnUNetXModal_demo`, and 40 further ones that no fold trains
on; all are measured complete, without T2W and without ADC. Equal seeds and folds begin with equal random numbers.
Results are one JSON line per training in `results.jsonl`; what is there is not trained again.
"""

import argparse
import json
import os
import random
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd

TRAINING, MEASURED, SLICES, FEATURES = 20, 40, 2, 16
CONDITIONS = {"complete": (), "without T2W": (0,), "without ADC": (1,)}


def methods() -> dict[str, type]:
    """Return what is compared: name → trainer."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from nnunet_xmodal import trainers

    any_streams = trainers.nnUNetTrainerAnyStreams

    class DropoutEnds(trainers.nnUNetTrainerMultiStreamDropout):
        """Stream dropout in the first 70 % of the training."""

        def on_train_epoch_start(self) -> None:
            super().on_train_epoch_start()
            if self.current_epoch >= 0.7 * self.num_epochs:
                self.network.stream_dropout.probability = 0.0

    def with_attributes(**attributes: object) -> type:
        return type("Variant", (any_streams,), attributes)

    return {
        "nnU-Net": nnUNetTrainer,
        "MultiStream": trainers.nnUNetTrainerMultiStream,
        "MultiStreamDropout": trainers.nnUNetTrainerMultiStreamDropout,
        "dropout ends at 0.7": DropoutEnds,
        "twice": with_attributes(reduce_some=False),
        "twice, weight 0.2": with_attributes(reduce_some=False, some_weight=0.2),
        "twice, distilled": with_attributes(reduce_some=False, distillation_from_complete=0.5),
        "AnyStreams": any_streams,
        "AnyStreams, weight 0.2": with_attributes(some_weight=0.2),
    }


def prepare(root: Path, seed: int) -> str:
    """Write, plan and preprocess the phantoms of a seed, unless that was done; return the dataset's name."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from sklearn.model_selection import KFold

    from nnunet_xmodal.demo.configuration import narrowed
    from nnunet_xmodal.phantoms.prostate import write_prostate_dataset

    name = f"Dataset{seed:03d}_Phantoms"
    preprocessed = root / "nnUNet_preprocessed" / name
    if (preprocessed / "prepared").exists():
        return name
    write_prostate_dataset(root / "nnUNet_raw" / name, TRAINING + MEASURED, 0, seed)
    api.extract_fingerprint_dataset(seed, num_processes=1)
    api.plan_experiment_dataset(seed)
    api.preprocess_dataset(seed, "nnUNetPlans", ("2d",), num_processes=[1])
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"]["narrow"] = narrowed(plans["configurations"], "2d", SLICES, FEATURES)
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    cases = sorted(path.name.split(".")[0] for path in (preprocessed / "gt_segmentations").iterdir())
    folds = KFold(5, shuffle=True, random_state=12345).split(cases[:TRAINING])  # nnU-Net's
    splits = [{"train": [cases[i] for i in train], "val": cases[TRAINING:]} for train, _ in folds]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    (preprocessed / "prepared").touch()
    return name


def train(root: Path, seed: int, fold: int, method: str, epochs: int, steps: int) -> dict:
    """Train and measure one fold; return what is written."""
    import torch

    preprocessed = root / "nnUNet_preprocessed" / prepare(root, seed)
    os.environ["nnUNet_n_proc_DA"] = "0"  # planning would fail with this value
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    for generator in (torch.manual_seed, np.random.seed, random.seed):
        generator(1000 * seed + fold)
    torch.set_num_threads(1)
    trainer = methods()[method](plans, "narrow", fold, dataset_json, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = epochs, steps, 1
    trainer.disable_checkpointing = True
    trainer.print_to_log_file = lambda *words, **options: None
    began = perf_counter()
    trainer.run_training()
    seconds = round(perf_counter() - began, 1)
    cases = json.loads((preprocessed / "splits_final.json").read_text())[fold]["val"]
    result = {"method": method, "seed": seed, "fold": fold, "epochs": epochs, "steps": steps, "seconds": seconds}
    return result | {"dice": {name: dice_without(trainer, cases, missing) for name, missing in CONDITIONS.items()}}


def dice_without(trainer: Any, cases: list[str], missing: tuple[int, ...]) -> dict[str, list[float]]:
    """Return the Dice of both labels in percent, per case; patches are whole slices here.

    Models for any of their streams get those that are left, nnU-Net gets zeros, which are a channel's mean.
    """
    import torch

    from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet

    trainer.set_deep_supervision_enabled(False)
    network = trainer.network.eval()
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
    dice: dict[str, list[float]] = {"prostate": [], "lesion": []}
    for case in cases:
        data, segmentation, *_ = dataset.load_case(case)
        slices = torch.from_numpy(np.ascontiguousarray(data[:])).transpose(0, 1).float()  # z C y x
        slices[:, list(missing)] = 0
        arguments = []
        if missing and isinstance(network, MultiStreamUNet):
            arguments = [torch.tensor([[stream not in missing for stream in range(2)]]).expand(len(slices), -1)]
        with torch.no_grad():
            predicted = network(slices, *arguments).argmax(1).numpy()
        truth = np.asarray(segmentation[:])[0]
        for label, name in enumerate(dice, 1):
            ours, theirs = predicted == label, truth == label
            dice[name].append(round(200 * float((ours & theirs).sum()) / max(1, int(ours.sum() + theirs.sum())), 2))
    return dice


def table(lines: list[str]) -> str:
    """Return the mean Dice per method and condition, of prostate / lesion, in markdown."""
    rows = [
        (result["method"], condition, label, np.mean(values))
        for result in map(json.loads, lines)
        for condition, of_condition in result["dice"].items()
        for label, values in of_condition.items()
    ]
    dice = pd.DataFrame(rows, columns=["method", "condition", "label", "Dice"])
    text = [f"| method | trainings | {' | '.join(CONDITIONS)} |", f"|---|--:|{'--:|' * len(CONDITIONS)}"]
    for method, of_method in dice.groupby("method", sort=False):
        means = of_method.groupby(["condition", "label"])["Dice"].mean()
        cells = [f"{means[condition, 'prostate']:.1f} / {means[condition, 'lesion']:.1f}" for condition in CONDITIONS]
        text.append(f"| {method} | {len(of_method) // 6} | {' | '.join(cells)} |")
    return "\n".join(text)


def main() -> None:
    """Train what has no result yet, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", dest="root", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[101, 102, 103], help="of phantoms and trainings")
    parser.add_argument("--folds", nargs="+", type=int, default=[0])
    parser.add_argument("--methods", nargs="+", help="(default: all)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--steps", type=int, default=180, help="per epoch")
    parser.add_argument("--table", action="store_true", help="of what is there; trains nothing")
    args = parser.parse_args()
    root = args.root.resolve()
    results = root / "results.jsonl"
    if args.table:
        print(table(results.read_text().splitlines()))
        return
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (root / variable).mkdir(parents=True, exist_ok=True)
        os.environ[variable] = str(root / variable)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "nnUNet_compile": "false"}
    from nnunet_xmodal import discovery
    from nnunet_xmodal.demo.in_process import loading_in_this_thread, pools_of_threads

    discovery.register()
    known = [json.loads(line) for line in results.read_text().splitlines()] if results.is_file() else []
    done = {tuple(result[key] for key in ("seed", "fold", "method", "epochs", "steps")) for result in known}
    with pools_of_threads(), loading_in_this_thread():
        for seed in args.seeds:
            for fold in args.folds:
                for method in args.methods or methods():
                    if (seed, fold, method, args.epochs, args.steps) in done:
                        continue
                    result = train(root, seed, fold, method, args.epochs, args.steps)
                    with results.open("a") as file:
                        file.write(json.dumps(result) + "\n")
                    print(table([json.dumps(result)]), flush=True)
                    os.environ["nnUNet_n_proc_DA"] = "1"


if __name__ == "__main__":
    main()
