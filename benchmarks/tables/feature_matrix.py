"""Every trainer × every feature of nnU-Net, once, as a table: what trains, resumes, validates, exports, predicts.

    python benchmarks/tables/feature_matrix.py > matrix.md

Runs in one process on tiny phantoms with the shortest trainings (one epoch of one iteration, four to eight channels),
on the CPU. Each cell calls the functions behind nnU-Net's commands; a failing cell shows the exception.
"""

import argparse
import copy
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.update(nnUNet_def_n_proc="1", nnUNet_n_proc_DA="1", nnUNet_compile="false")

import torch  # noqa: E402  nnU-Net reads its environment when it is imported

from nnunet_xmodal import discovery, trainers  # noqa: E402
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint  # noqa: E402
from nnunet_xmodal.phantoms.two_channel import write_phantom_dataset  # noqa: E402
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor  # noqa: E402
from nnunet_xmodal.trainers import TRAINERS  # noqa: E402

DEVICE = torch.device("cpu")
DATASET, REGIONS = "Dataset901_Phantom", "Dataset902_Regions"
# streams 2 and 3 do not exist in data of two channels; the common tests cover them
TWO_STREAMS = [
    name
    for name in TRAINERS
    if name not in ("nnUNetTrainerStream2", "nnUNetTrainerStream3")
    and getattr(trainers, name).predictor_class is SegmentationPredictor
]


def prepare(root: Path) -> None:
    """Write the phantoms, plan and preprocess them, and narrow their networks."""
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api

    sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "end_to_end"))
    from conftest import shrink, with_regions_and_ignore  # the same tiny plans as the tests

    for variable, name in (("raw", "raw"), ("preprocessed", "pre"), ("results", "res")):
        os.environ[f"nnUNet_{variable}"] = str(root / name)
    for dataset in (DATASET, REGIONS):
        write_phantom_dataset(root / "raw" / dataset, n_train=6, n_test=1, seed=0)
    with_regions_and_ignore(root / "raw" / REGIONS)
    for number, dataset in ((901, DATASET), (902, REGIONS)):
        api.extract_fingerprint_dataset(number, num_processes=1)
        api.plan_experiment_dataset(number)
        api.preprocess_dataset(number, "nnUNetPlans", ("2d", "3d_fullres"), num_processes=[1, 1])
        shrink(root / "pre" / dataset / "nnUNetPlans.json")
    api.preprocess_dataset(901, "nnUNetPlans", ("3d_lowres",), num_processes=[1])
    os.environ["nnUNet_n_proc_DA"] = "0"


def train(trainer: str, configuration: str = "2d", fold: int | str = 0, dataset: str = DATASET, **options: Any) -> None:
    """Train one iteration."""
    from nnunetv2.run.run_training import run_training

    run_training(dataset, configuration, fold, f"{trainer}_1epochs_1its", device=DEVICE, **options)


def model(trainer: str, configuration: str = "2d", dataset: str = DATASET) -> Path:
    """Return where nnU-Net keeps the model."""
    return Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}_1epochs_1its__nnUNetPlans__{configuration}"


def resume(trainer: str) -> None:
    """Continue a training of two epochs from the checkpoint of its first."""
    from nnunetv2.run.run_training import run_training

    name = f"{trainer}_2epochs_1its"
    fold = model(trainer).parent / model(trainer).name.replace("_1epochs", "_2epochs") / "fold_0"
    fold.mkdir(parents=True)
    checkpoint = read_checkpoint(model(trainer) / "fold_0" / "checkpoint_final.pth")
    torch.save({**checkpoint, "trainer_name": name}, fold / "checkpoint_latest.pth")
    run_training(DATASET, "2d", 0, name, continue_training=True, device=DEVICE)
    assert read_checkpoint(fold / "checkpoint_final.pth")["current_epoch"] == 2


def without_deep_supervision(trainer: str) -> None:
    """Train and validate with deep supervision the other way round."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    base = recursive_find_trainer_class_by_name(f"{trainer}_1epochs_1its")
    preprocessed = Path(os.environ["nnUNet_preprocessed"]) / DATASET
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text())
    dataset_json = json.loads((preprocessed / "dataset.json").read_text())
    off = type(f"{trainer}Off", (base,), {"deep_supervision": not base.deep_supervision})
    instance = off({**copy.deepcopy(plans), "continue_training": False}, "2d", 0, dataset_json, DEVICE)
    instance.run_training()
    instance.perform_actual_validation()


def cascade(trainer: str) -> None:
    """Train both stages of a cascade."""
    train(trainer, "3d_lowres", "all")
    train(trainer, "3d_cascade_fullres")


def export_and_install(trainer: str) -> None:
    """Export the model and install it elsewhere."""
    from nnunetv2.model_sharing.model_export import export_pretrained_model
    from nnunetv2.model_sharing.model_import import install_model_from_zip_file

    archive = Path(os.environ["nnUNet_results"]) / f"{trainer}.zip"
    export_pretrained_model(
        901, str(archive), ("2d",), f"{trainer}_1epochs_1its", "nnUNetPlans", folds=(0,), strict=False
    )
    results, elsewhere = os.environ["nnUNet_results"], str(archive.with_suffix(""))
    try:
        os.makedirs(elsewhere)
        os.environ["nnUNet_results"] = elsewhere
        install_model_from_zip_file(str(archive))
        predict(trainer)
    finally:
        os.environ["nnUNet_results"] = results


def predict(trainer: str) -> None:
    """Predict with mirroring where the trainer allows it."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(device=DEVICE, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(model(trainer)), (0,))
    output = model(trainer) / "predicted"
    output.mkdir(exist_ok=True)
    predictor.predict_from_files_sequential(str(Path(os.environ["nnUNet_raw"]) / DATASET / "imagesTs"), str(output))
    assert len(list(output.glob("*.nii.gz"))) == 1


FEATURES = {
    "2d, --npz": lambda trainer: train(trainer, export_validation_probabilities=True),
    "--c": resume,
    "--val": lambda trainer: train(trainer, only_run_validation=True),
    "-pretrained_weights": lambda trainer: train(
        trainer, fold=1, pretrained_weights=str(model(trainer) / "fold_0" / "checkpoint_final.pth")
    ),
    "predict, mirroring": predict,
    "zip": export_and_install,
    "deep supervision toggled": without_deep_supervision,
    "3d_fullres": lambda trainer: train(trainer, "3d_fullres"),
    "cascade": cascade,
    "regions, ignore": lambda trainer: train(trainer, dataset=REGIONS),
}


def cell(feature: Callable[[str], None], trainer: str, log: Path) -> str:
    """Return whether a feature works, and how long it takes or what it raises."""
    began = perf_counter()
    with open(log, "a", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            feature(trainer)
        except Exception as error:
            traceback.print_exc()
            return f"**{type(error).__name__}: {str(error)[:60]}**"
    return f"✓ {perf_counter() - began:.0f} s"


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-tr", nargs="+", default=TWO_STREAMS, help="trainers (rows)")
    parser.add_argument("--log", type=Path, default=Path("feature_matrix.log"), help="what nnU-Net prints")
    args = parser.parse_args()
    discovery.register()
    with tempfile.TemporaryDirectory() as folder:
        with open(args.log, "a", encoding="utf-8") as file, redirect_stdout(file):
            prepare(Path(folder))
        print("| trainer |", " | ".join(FEATURES), "|")
        print("|---" * (len(FEATURES) + 1) + "|", flush=True)
        for trainer in args.tr:
            cells = [cell(feature, trainer, args.log) for feature in FEATURES.values()]
            print(f"| `{trainer}` |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
