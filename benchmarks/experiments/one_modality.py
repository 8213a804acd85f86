"""Which modality counted, where that is known beforehand: small models of phantoms whose lesions ADC alone shows.

    python benchmarks/experiments/one_modality.py -o one

Trains nnU-Net's network, the same with channels set to 0 at random, and that of nnUNetTrainerAnyStreams: two folds
each, half a minute on one core, with AdamW on whole slices, because nnU-Net's own training needs more steps than that.
Then nnUNetXModal_explain and nnUNetXModal_predict --uncertainty tell of 12 new phantoms, and nnUNetXModal_compare of
their calibration.
"""

import argparse
import os
from pathlib import Path
from time import process_time

import numpy as np
import torch
from torch import nn

from nnunet_xmodal.networks.of_present_streams import is_told_streams
from nnunet_xmodal.phantoms.shown_in_one import one_modality_phantom, write_one_modality_dataset

DATASET = "Dataset952_OneModality"
MODELS = {
    "nnU-Net": ("nnUNetTrainer", "nnUNetPlans", False),
    "nnU-Net, channels zeroed": ("nnUNetTrainer", "nnUNetPlansZeroed", True),
    "AnyStreams": ("nnUNetTrainerAnyStreams", "nnUNetPlans", True),
}
"""Name → trainer, plans, and whether it sees samples that lack a channel."""

FOLDS, TRAINING, NEW, FEATURES = 2, 200, 12, 8
STEPS, BATCH, RATE = 800, 8, 3e-3
CONFIGURATION = f"2d_b{BATCH}_f{FEATURES}"
_SETS = ((True, True), (True, False), (False, True), (False, False))
_DRAWN = {True: (0.6, 0.2, 0.2, 0.0), False: (0.5, 0.2, 0.2, 0.1)}
"""Whether a network knows absent streams, of which it needs one → how often a sample has each of the sets."""


def slices_of(seeds: list[tuple[int, ...]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the slices of phantoms as nnU-Net's preprocessing leaves them, `(N, 2, y, x)`, and their labels."""
    phantoms = [one_modality_phantom(np.random.default_rng(seed)) for seed in seeds]
    images = [(p.images - p.images.mean((1, 2, 3), keepdims=True)) / p.images.std((1, 2, 3), keepdims=True)
              for p in phantoms]  # fmt: skip
    x = np.concatenate([image.transpose(1, 0, 2, 3) for image in images])
    return torch.from_numpy(x).float(), torch.from_numpy(np.concatenate([p.label for p in phantoms])).long()


def train(network: nn.Module, seeds: list[tuple[int, ...]], seed: int, absent: bool, steps: int = STEPS) -> None:
    """Train on slices of phantoms with cross-entropy and Dice, mirrored at random.

    Args:
        network: without deep supervision; its norms are of single samples, so that eval mode trains as well, in which
            a network that draws absent streams itself takes those that it is given.
        seeds: of the phantoms.
        seed: of everything that is drawn.
        absent: whether samples lack a channel at random, which is 0 to networks that know no absent streams.
    """
    rng = np.random.default_rng(seed)
    x, y = slices_of(seeds)
    network.eval()
    optimizer = torch.optim.AdamW(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    knows = is_told_streams(network)
    with_lesion = torch.nonzero((y == 1).flatten(1).any(1))[:, 0].numpy()
    for _ in range(steps):
        chosen = torch.from_numpy(np.append(rng.choice(with_lesion, BATCH // 2), rng.integers(0, len(x), BATCH // 2)))
        axes = [axis for axis in (1, 2) if rng.random() < 0.5]
        images, labels = x[chosen].flip([axis + 1 for axis in axes]), y[chosen].flip(axes)
        given = torch.tensor([_SETS[k] for k in rng.choice(4, BATCH, p=_DRAWN[knows])])
        if absent and not knows:
            images = images * given[..., None, None]
        logits = network(images, given) if absent and knows else network(images)
        p, true = logits.softmax(1)[:, 1], labels == 1
        dice = (2 * (p * true).sum() + 1) / (p.sum() + true.sum() + 1)
        loss = nn.functional.cross_entropy(logits, labels) + 1 - dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def write_models(root: Path) -> None:
    """Write plans, train, and write model folders as nnU-Net's training leaves them, validation cases included."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_xmodal import trainers
    from nnunet_xmodal.demo.configuration import narrowed
    from nnunet_xmodal.demo.in_process import pools_of_threads
    from nnunet_xmodal.files.atomic import write_json
    from nnunet_xmodal.files.json_files import read_json

    with pools_of_threads():
        api.extract_fingerprints([952], num_processes=1)
    api.plan_experiment_dataset(952)
    plans = read_json(root / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json")
    plans["configurations"][CONFIGURATION] = narrowed(plans["configurations"], "2d", BATCH, FEATURES)
    dataset_json = read_json(root / "nnUNet_raw" / DATASET / "dataset.json")
    for title, (name, plans_name, absent) in MODELS.items():
        mine = {**plans, "plans_name": plans_name}
        if name != "nnUNetTrainer":
            mine["xmodal"] = {"streams": [[0], [1]]}
        folder = root / "nnUNet_results" / DATASET / f"{name}__{plans_name}__{CONFIGURATION}"
        for fold in range(FOLDS):
            (folder / f"fold_{fold}").mkdir(parents=True)
            manager = PlansManager(mine)
            kind = nnUNetTrainer if name == "nnUNetTrainer" else getattr(trainers, name)
            torch.manual_seed(fold)
            network = kind.build_network_architecture(manager, manager.get_configuration(CONFIGURATION), 2, 2, False)
            start = process_time()
            train(network, [(0, 0, case) for case in range(TRAINING) if case % FOLDS != fold], fold, absent)
            print(f"{title}, fold {fold}: {process_time() - start:.1f} s")
            checkpoint = {
                "network_weights": network.state_dict(),
                "trainer_name": name,
                "init_args": {"plans": mine, "configuration": CONFIGURATION, "fold": fold},
                "inference_allowed_mirroring_axes": (0, 1),
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        write_json(mine, folder / "plans.json")
        write_json(dataset_json, folder / "dataset.json")


def validate(root: Path) -> None:
    """Predict every fold's validation cases with their probabilities, where nnU-Net's training leaves them."""
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder_simple

    from nnunet_xmodal.commands.predict import main as predict
    from nnunet_xmodal.demo.in_process import pools_of_threads

    raw = root / "nnUNet_raw" / DATASET
    references = root / "nnUNet_preprocessed" / DATASET / "gt_segmentations"
    references.mkdir(parents=True, exist_ok=True)
    for file in (raw / "labelsTr").iterdir():
        (references / file.name).write_bytes(file.read_bytes())
    for name, plans_name, _ in MODELS.values():
        for fold in range(FOLDS):
            images = root / f"validation_{fold}"
            images.mkdir(exist_ok=True)
            for case in range(fold, TRAINING, FOLDS):
                for file in (raw / "imagesTr").glob(f"onemodality_tr{case:03d}_*"):
                    (images / file.name).write_bytes(file.read_bytes())
            model = root / "nnUNet_results" / DATASET / f"{name}__{plans_name}__{CONFIGURATION}"
            output = model / f"fold_{fold}" / "validation"
            predict(words(name, plans_name, images, output, "-f", fold, "-nps", 0, "--save_probabilities"))
            with pools_of_threads():
                compute_metrics_on_folder_simple(str(references), str(output), [1], num_processes=1, chill=True)


def words(trainer: str, plans: str, images: Path, output: Path, *others: object) -> list[str]:
    """Return the words of a command line that name images, output and model."""
    named = ["-i", images, "-o", output, "-d", 952, "-c", CONFIGURATION, "-tr", trainer, "-p", plans]
    named += ["-device", "cpu", "-npp", 0]
    return [*map(str, named), "--disable_progress_bar", *map(str, others)]


def main() -> None:
    """Train, explain, predict, compare."""
    p = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    p.add_argument("-o", type=Path, required=True, metavar="FOLDER", help="gets data, models and results")
    root = p.parse_args().o.resolve()
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ[variable] = str(root / variable)
    raw = root / "nnUNet_raw" / DATASET
    write_one_modality_dataset(raw, TRAINING, NEW, seed=0)
    write_models(root)
    from nnunet_xmodal import discovery
    from nnunet_xmodal.commands.compare import main as compare
    from nnunet_xmodal.commands.explain import main as explain
    from nnunet_xmodal.commands.predict import main as predict

    discovery.register()
    validate(root)
    new, references = raw / "imagesTs", raw / "labelsTs"
    for title, (name, plans_name, _) in MODELS.items():
        what = ["shapley", "gradcam", *(["attention"] if title == "AnyStreams" else [])]
        given = ["-f", 0, 1, "--gt", references, "--what", *what, "--level", 1, 2]
        explain(words(name, plans_name, new, root / "told" / title, *given))
        given = ["-f", 0, 1, "-nps", 0, "--uncertainty", "--save_probabilities"]
        predict(words(name, plans_name, new, root / "sure" / title, *given))
    trained = ["-tr", "nnUNetTrainer", "nnUNetTrainerAnyStreams", "-d", "952", "-c", CONFIGURATION, "-f", "0", "1"]
    compare(["-o", str(root / "report"), *trained, "--calibration", "--temperature", "-np", "1"])
    folders = [f"{title}={root / 'sure' / title}" for title in MODELS]
    others = ["--gt", str(references), "--calibration", "-np", "1"]
    compare(["-o", str(root / "report_new"), "--folders", *folders, *others])


if __name__ == "__main__":
    main()
