"""CMFT on phantoms whose stream B is a known function of A: does the translation find it without a label?

    python benchmarks/experiments/modality_transition.py -o transition.png      # minutes on two cores
    python benchmarks/experiments/modality_transition.py -tr nnUNetTrainerCMFT  # no identity term, no pairs: may invert

Phantoms are heads of three tissues with a texture, B = A⁴ voxel by voxel: a perfect translation exists. They are
planned and preprocessed by nnU-Net, and the trainer trains a narrow network with Adam 1e-3 and β₁ = 0.5, which suits
the short training. Prints SSIM inside the foreground of translations and cycles and, beside them, of A and B.
"""

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import SimpleITK as sitk
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from scipy.ndimage import gaussian_filter

from nnunet_xmodal import discovery, trainers
from nnunet_xmodal.commands.plan_and_preprocess import main as plan_and_preprocess
from nnunet_xmodal.evaluation.image_similarity import image_similarity, range_inside
from nnunet_xmodal.files.atomic import write_json

DATASET = "Dataset951_Transition"
SHAPE = (16, 48, 48)


def head(rng: np.random.Generator) -> np.ndarray:
    """Draw A: three tissues of smooth random shapes, a dark rim, texture of 10 %; 0 outside."""
    zyx = np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij")
    centre, radii = rng.uniform(-0.08, 0.08, 3), rng.uniform((1.1, 0.75, 0.65), (1.4, 0.92, 0.85))
    distance = sum(((x - c) / r) ** 2 for x, c, r in zip(zyx, centre, radii))
    field = gaussian_filter(rng.normal(size=SHAPE), (3, 4, 4))
    field /= field.std()
    tissue = np.select([distance > 0.8, field > 0.7, field > -0.4], [0.15, 1.0, 0.7], 0.35)
    texture = gaussian_filter(rng.normal(size=SHAPE), (2, 2, 2))
    return np.where(distance < 1, gaussian_filter(tissue, 0.5) * (1 + 0.1 * texture / texture.std()), 0)


def make_dataset(raw: Path, n_cases: int) -> None:
    """Write heads A and A⁴ as a raw dataset with one arbitrary label."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / DATASET / folder).mkdir(parents=True)
    for number in range(n_cases):
        a = head(np.random.default_rng(number))
        label = np.zeros(SHAPE, np.uint8)
        label[8, 20:28, 20:28] = 1  # nnU-Net wants a label; no trainer here looks at it
        for name, array in (("imagesTr/{}_0000", a), ("imagesTr/{}_0001", a**4), ("labelsTr/{}", label)):
            array = array if array.dtype == np.uint8 else array.astype(np.float32)
            file = raw / DATASET / f"{name.format(f'head{number:02d}')}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
    content = {"channel_names": {"0": "A", "1": "B"}, "labels": {"background": 0, "anything": 1}}
    write_json(content | {"numTraining": n_cases, "file_ending": ".nii.gz"}, raw / DATASET / "dataset.json")


def narrow_plans(file: Path, width: int, batch_size: int) -> dict:
    """Return the plans with another width and batch size."""
    plans = json.loads(file.read_text())
    configuration = plans["configurations"]["2d"]
    architecture = configuration["architecture"]["arch_kwargs"]
    architecture["features_per_stage"] = [min(width * 2**level, 8 * width) for level in range(architecture["n_stages"])]
    configuration["batch_size"] = batch_size
    return plans | {"continue_training": False}


def ssim_of_a_and_b(dataset: nnUNetBaseDataset, cases: list[str]) -> float:
    """Return their mean SSIM, preprocessed, intensities counted from the minimum of B, as in the validation."""
    values = []
    for case in cases:
        data, label, _, _ = dataset.load_case(case)
        data, mask = data[:], np.asarray(label[0]) >= 0
        data = data - data[1][mask].min()
        values.append(image_similarity(data[:1], data[1:], mask, range_inside(data[1:], mask))["SSIM"])
    return float(np.mean(values))


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-tr", default="nnUNetTrainerCMFTPaired", help="trainer")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--iterations", type=int, default=100, help="of an epoch")
    parser.add_argument("--cases", type=int, default=15)
    parser.add_argument("--width", type=int, default=8, help="channels of the finest level")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("-o", metavar="PNG", help="keep the figure of the first validation case")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as root:
        folders = {name: Path(root) / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
        for name, folder in folders.items():
            folder.mkdir()
            os.environ[name] = str(folder)
        discovery.register()
        raw, preprocessed, _ = folders.values()
        make_dataset(raw, args.cases)
        plan_and_preprocess(["-d", "951", "-c", "2d", "-np", "1", "-npfp", "1"])
        plans = narrow_plans(preprocessed / DATASET / "nnUNetPlans.json", args.width, args.batch_size)
        settings = {"initial_lr": args.learning_rate, "betas": (0.5, 0.999)}
        trainer_class = type(args.tr, (getattr(trainers, args.tr),), settings)
        dataset_json = json.loads((raw / DATASET / "dataset.json").read_text())
        torch.manual_seed(args.seed)
        trainer = trainer_class(plans, "2d", 0, dataset_json, torch.device(args.device))
        trainer.num_epochs, trainer.num_iterations_per_epoch = args.epochs, args.iterations
        trainer.num_val_iterations_per_epoch = 5
        start = perf_counter()
        trainer.run_training()
        minutes = (perf_counter() - start) / 60
        trainer.perform_actual_validation()
        validation = Path(trainer.output_folder) / "validation"
        summary = json.loads((validation / "summary.json").read_text())
        _, cases = trainer.do_split()
        dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, cases)
        steps = args.epochs * args.iterations
        print(f"\n{args.tr}, seed {args.seed}, {steps} steps, {minutes:.1f} min, {len(cases)} cases validated\n")
        print(f"A and B: SSIM {ssim_of_a_and_b(dataset, cases):.3f}")
        ((_, means),) = summary["mean"].items()
        for name in ("A_to_B", "B_to_A", "A_to_B_to_A", "B_to_A_to_B"):
            if f"{name}_SSIM" in means:
                print(f"{name}: SSIM {means[f'{name}_SSIM']:.3f}, MAE {means[f'{name}_MAE']:.3f}")
        if args.o:
            shutil.copyfile(validation / "images" / f"{cases[0]}.png", args.o)


if __name__ == "__main__":
    main()
