"""Short trainings of few-shot trainers in one process, measured in every way that predictions may be asked for.

    python benchmarks/experiments/few_shot_trial.py -d 972 -f 0 -tr nnUNetTrainerCRTPLite --steps 200 -o trial.jsonl

Loader, step, schedule (a hundred decays over the steps), support and protocol are the trainer's. Dice is of the
validation scans on their preprocessed grid, in %: by the protocol; and of all slices with all labels competing, by the
best of all chunks (as nnU-Net's validation and nnUNetv2_predict), by position (as nnUNetXModal_predict) and with the
organs' true extents (--extents), each also with --largest_component. What is in the file is not trained again.
Trainers of `few_shot_controls.py` go by their names, too; `few_shot_table.py` makes tables of the file.
"""

import argparse
import json
import time
from pathlib import Path

import few_shot_controls
import numpy as np
import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.tasks.few_shot.episodes import EpisodeLoader, on_patch
from nnunet_xmodal.tasks.few_shot.largest_component import keep_largest_components
from nnunet_xmodal.tasks.few_shot.support import Label, fill_support, labels_to_segment, relative_position
from nnunet_xmodal.tasks.few_shot.support_slices import chunk_of, organ_extent
from nnunet_xmodal.tasks.few_shot.validation import protocol_dice
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer
from nnunet_xmodal.trainers.base.schedule import decay

WAYS = ("protocol", "best", "best+largest", "position", "position+largest", "extents", "extents+largest")
"""How a segmentation is asked for, see the module."""

Scores = dict[str, list[list[float]]]
"""Way → case → label → Dice in %."""


class InMemory:
    """Preprocessed cases, read once."""

    def __init__(self, dataset: PreprocessedCases) -> None:
        self.identifiers = list(dataset.identifiers)
        self.cases = {}
        for case in self.identifiers:
            data, segmentation, _, properties = dataset.load_case(case)
            self.cases[case] = np.asarray(data[:]), np.asarray(segmentation[:]), None, properties

    def load_case(self, case: str) -> tuple[np.ndarray, np.ndarray, None, dict]:
        """Return data, segmentation and properties of a case."""
        return self.cases[case]


def train(trainer: FewShotTrainer, cases: InMemory, steps: int) -> None:
    """Train for a number of steps in this process."""
    loader = EpisodeLoader(
        cases,
        trainer.superpixels(),
        trainer.configuration_manager.patch_size,
        trainer.batch_size,
        trainer.transform_query,
        trainer.transform_support,
        trainer.superpixels_per_pair,
        trainer.plain_network.padded_by_background,
    )
    rate = decay(trainer.initial_lr, max(1, steps), trainer.decay)
    trainer.network.train()
    for step in range(steps):
        for group in trainer.optimizer.param_groups:
            group["lr"] = rate(step)
        trainer.train_step(next(loader))


def logits_of(network: PrototypeNetwork, data: np.ndarray, extents: list[tuple[int, int] | None]) -> dict:
    """Return how it is asked for → logits `(slices, 1 + L, H, W)` of a scan `(C, slices, H, W)`."""
    x, slices = torch.from_numpy(on_patch(data, network.size)).transpose(0, 1), data.shape[1]
    chunks = [
        {
            label: chunk_of(index, *extent, network.chunks) if extent[0] <= index <= extent[1] else None
            for label, extent in enumerate(extents)
            if extent is not None
        }
        for index in range(slices)
    ]
    each = [x[index : index + 1] for index in range(slices)]
    logits = {
        "best": torch.cat([network.segment(one) for one in each]),
        "position": torch.cat(
            [network.segment(one, position=relative_position(index, slices)) for index, one in enumerate(each)]
        ),
        "extents": torch.cat([network.segment(one, of_label=of) for one, of in zip(each, chunks)]),
    }
    largest = {
        f"{name}+largest": keep_largest_components(value.clone().transpose(0, 1), False).transpose(0, 1)
        for name, value in logits.items()
    }
    return logits | largest


@torch.inference_mode()
def measure(network: PrototypeNetwork, cases: InMemory, labels: dict[str, Label]) -> Scores:
    """Segment the cases in every way of asking; return Dice."""
    scores: Scores = {"protocol": []}
    for case in cases.identifiers:
        data, segmentation, *_ = cases.load_case(case)
        of_protocol = protocol_dice(network, torch.device("cpu"), cases, case, labels)
        scores["protocol"].append([100 * of_protocol[key] for key in labels])
        truth = segmentation[0]
        extents = [organ_extent(truth, values) for values in labels.values()]
        for name, logits in logits_of(network, data.astype(np.float32), extents).items():
            found = on_patch(logits.argmax(1).numpy(), truth.shape[1:])
            masks = [(found == number, np.isin(truth, values)) for number, values in enumerate(labels.values(), 1)]
            scores.setdefault(name, []).append([200 * float((a & b).sum() / (a.sum() + b.sum())) for a, b in masks])
    return scores


def trial(name: str, dataset: str, number: int, steps: int) -> dict:
    """Train and measure one fold; return its line of the file."""
    preprocessed = Path(nnUNet_preprocessed) / dataset
    plans, described = (read_json(preprocessed / f"{part}.json") for part in ("nnUNetFewShotPlans", "dataset"))
    torch.manual_seed(number)
    np.random.seed(number)
    trainer_class = getattr(few_shot_controls, name, None) or getattr(trainers, name)
    trainer = trainer_class(plans, "2d", number, described, torch.device("cpu"))
    trainer.initialize()
    training, validation = (InMemory(part) for part in trainer.get_tr_and_val_datasets())
    fill_support(trainer.network, training, trainer.label_manager)
    begin = time.process_time()
    train(trainer, training, steps)
    seconds = time.process_time() - begin
    labels = labels_to_segment(trainer.label_manager)
    scores = measure(trainer.network.eval(), validation, labels)
    of_trial = {"trainer": name, "dataset": dataset, "fold": number, "steps": steps, "cpu": round(seconds, 1)}
    of_trial |= {"size": list(trainer.plain_network.size), "cases": validation.identifiers, "labels": list(labels)}
    return of_trial | {
        way: [[round(dice, 2) for dice in of_case] for of_case in of_way] for way, of_way in scores.items()
    }


@one_sentence_errors
def main() -> None:
    """Run what has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset, number or name")
    parser.add_argument("-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    parser.add_argument("-tr", nargs="+", required=True, help="trainers")
    parser.add_argument("--steps", type=int, default=200, help="0 for the untrained network (default: 200)")
    parser.add_argument("-o", type=Path, required=True, help="file that results are added to, one per line")
    args = parser.parse_args()
    dataset = maybe_convert_to_dataset_name(int(args.d) if args.d.isdecimal() else args.d)
    lines = args.o.read_text().splitlines() if args.o.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("trainer", "dataset", "fold", "steps")) for line in lines}
    for number in args.f:
        for name in args.tr:
            if (name, dataset, number, args.steps) in done:
                continue
            result = trial(name, dataset, number, args.steps)
            with args.o.open("a") as file:
                file.write(json.dumps(result) + "\n")
            means = {way: round(float(np.nanmean(result[way])), 1) for way in WAYS}
            print(name, dataset, f"fold {number}", means, flush=True)


if __name__ == "__main__":
    main()
