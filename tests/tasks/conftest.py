"""Model folders as trainings leave them, and predictions in this process."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.commands import export
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.model import Model
from nnunet_xmodal.prediction.building import building


@pytest.fixture
def write_model(nnunet_folders) -> Callable[..., Path]:
    """`(trainer, plans, dataset_json, networks)` → folder of a model with a fold for each network."""

    def write(
        trainer: str,
        plans: dict,
        dataset_json: dict,
        networks: Iterable[nn.Module],
        mirrored: tuple[int, ...] | None = None,
    ) -> Path:
        (configuration,) = plans["configurations"]
        model = f"{trainer}__{plans['plans_name']}__{configuration}"
        folder = nnunet_folders / "nnUNet_results" / plans["dataset_name"] / model
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in (("plans", plans), ("dataset", dataset_json)):
            write_json(content, folder / f"{name}.json")
        for fold, network in enumerate(networks):
            (folder / f"fold_{fold}").mkdir()
            checkpoint = {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"plans": plans, "configuration": configuration, "fold": fold},
                "inference_allowed_mirroring_axes": mirrored,
            }
            torch.save(checkpoint, folder / f"fold_{fold}" / "checkpoint_final.pth")
        return folder

    return write


@pytest.fixture
def write_untrained_model(write_model) -> Callable[[str, dict, dict], Path]:
    """`(trainer, plans, dataset_json)` → folder of a model with one fold, of random weights."""

    def write(trainer: str, plans: dict, dataset_json: dict) -> Path:
        manager = PlansManager(plans)
        (configuration,) = plans["configurations"]
        channels = len(dataset_json["channel_names"])
        heads = manager.get_label_manager(dataset_json).num_segmentation_heads
        torch.manual_seed(3)
        with building("predictor"):
            network = getattr(trainers, trainer).build_network_architecture(
                manager, manager.get_configuration(configuration), channels, heads, False
            )
        return write_model(trainer, plans, dataset_json, [network])

    return write


@pytest.fixture
def run(tmp_path) -> Callable[..., None]:
    """`(predictor, *flags)`: predicts what lies in the folder `in` into the folder `out`."""

    def run(predictor, *flags: object) -> None:
        (configuration,) = predictor.plans_manager.plans["configurations"]
        words = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-d", 1, "-c", configuration, "-npp", 0, *flags]
        request = request_of(parser().parse_args([*map(str, words), "--disable_progress_bar"]))
        predictor.take_options(request)
        predictor.predict_folder(request)

    return run


@pytest.fixture
def from_folder_and_zip(tmp_path, monkeypatch) -> Callable[[Path], Iterator[Model]]:
    """`(folder)` → the model of a folder, then that of its zip, without nnU-Net's variables."""

    def load(folder: Path) -> Iterator[Model]:
        file = tmp_path / "exported.zip"
        export.main(["-m", str(folder), "-o", str(file), "--overwrite"])
        with monkeypatch.context() as patched:
            for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
                patched.delenv(variable)
            for place in (folder, file):
                with Model.load(place, device="cpu", mirroring=False, step_size=1.0) as model:
                    yield model

    return load
