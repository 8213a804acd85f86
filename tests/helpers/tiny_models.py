"""A plugin of pytest: tiny plans, dataset.json files and trainers, as functions of what a test needs."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities import find_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

import nnunet_xmodal
from nnunet_xmodal import trainers
from nnunet_xmodal.networks.unet_plan import UNetPlan

torch.set_num_threads(1)  # networks of a few channels gain nothing from more, and on a busy machine lose much

DEVICE = torch.device("cpu")
"""That trainers are on."""
CHANNEL_NAMES = ("T1", "T1c", "T2", "FLAIR")


def plans_of(
    dimensions: int = 2,
    residual: bool = False,
    channels: int = 2,
    streams: list | None = None,
    patch_size: tuple[int, ...] | None = None,
    widths: tuple[int, ...] = (4, 8, 8),
    batch_size: int = 2,
) -> dict:
    """Plans as nnU-Net writes them, with one configuration, 2d or 3d_fullres."""
    ones, twos, threes = ([n] * dimensions for n in (1, 2, 3))
    levels = len(widths)
    family = "residual.BasicBlockD" if residual else None
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet."
        + ("ResidualEncoderUNet" if residual else "PlainConvUNet"),
        "arch_kwargs": {
            "n_stages": levels,
            "features_per_stage": list(widths),
            "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
            "kernel_sizes": [threes] * levels,
            "strides": [ones] + [twos] * (levels - 1),
            "n_blocks_per_stage" if family else "n_conv_per_stage": [1] + [2] * (levels - 1),
            "n_conv_per_stage_decoder": [1] * (levels - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    resampling = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    name = f"{dimensions}d" + ("_fullres" if dimensions == 3 else "")
    patch = list(patch_size or (16,) * dimensions)
    configuration = {
        "data_identifier": f"nnUNetPlans_{name}",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": batch_size,
        "patch_size": patch,
        "median_image_size_in_voxels": [float(side) for side in patch],
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        **{f"resampling_fn_{what}": "resample_data_or_seg_to_shape" for what in ("data", "seg", "probabilities")},
        **{f"resampling_fn_{what}_kwargs": dict(resampling) for what in ("data", "seg", "probabilities")},
        "architecture": architecture,
        "batch_dice": dimensions == 2,
    }
    plans = {
        "dataset_name": "Dataset999_Tiny",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0] * 3,
        "original_median_shape_after_transp": [16] * 3,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {name: configuration},
        "experiment_planner_used": "ResEncUNetPlanner" if residual else "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(index): {"mean": 0.0, "std": 1.0, "percentile_00_5": -2.0, "percentile_99_5": 2.0}
            for index in range(channels)
        },
    }
    if streams is not None:
        plans["xmodal"] = {"streams": streams}
    return plans


def dataset_json_of(kind: str = "labels", channels: int = 2) -> dict:
    """kind: "labels", "regions", or either followed by "+ignore"."""
    labels = {"background": 0, "edema": 1, "tumour": 2}
    dataset_json = {
        "channel_names": {str(index): name for index, name in enumerate(CHANNEL_NAMES[:channels])},
        "labels": labels,
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    if kind.startswith("regions"):
        dataset_json |= {"labels": {"background": 0, "whole": [1, 2], "tumour": 2}, "regions_class_order": [1, 2]}
    if kind.endswith("+ignore"):
        dataset_json["labels"] = {**dataset_json["labels"], "ignore": 3}
    return dataset_json


@pytest.fixture(autouse=True)
def one_thread():
    """Prediction on the CPU takes all threads for its process, as nnU-Net's does, and here that is the tests'."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _paths_of_modules_compared_once():
    """Let nnU-Net's search for a trainer, which most predictions begin with, compare each module's path once.

    It asks of all modules in memory, before and after, whether they lie in the plugin's folder: thousands of paths.
    """
    lies_in, known = find_class_by_name._module_originates_from_path, {}

    def asked(module, folder: str) -> bool:
        file = getattr(module, "__file__", None)
        if file is None:  # a package without __init__.py, which may lie at several places
            return lies_in(module, folder)
        if (file, folder) not in known:
            known[file, folder] = lies_in(module, folder)
        return known[file, folder]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(find_class_by_name, "_module_originates_from_path", asked)
        yield


@pytest.fixture
def make_plans():
    return plans_of


@pytest.fixture
def make_dataset_json():
    return dataset_json_of


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch) -> Path:
    """nnU-Net's three folders, empty, and its variables pointing at them and at our trainers."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(nnunet_xmodal.__file__).with_name("plugin")))
    monkeypatch.delenv("nnUNet_compile", raising=False)
    return tmp_path


@pytest.fixture
def make_trainer(nnunet_folders):
    """`(name or class, plans, dataset_json, initialize)` → trainer on DEVICE in folders of its own."""

    def make(trainer, plans: dict, dataset_json: dict | None = None, initialize: bool = True):
        trainer = getattr(trainers, trainer) if isinstance(trainer, str) else trainer
        (name, configuration), *_ = plans["configurations"].items()
        preprocessed = nnunet_folders / "nnUNet_preprocessed" / plans["dataset_name"] / configuration["data_identifier"]
        preprocessed.mkdir(parents=True, exist_ok=True)
        (preprocessed / "case.b2nd").touch()  # tells nnU-Net the file format
        channels = len(plans["foreground_intensity_properties_per_channel"])
        plans["continue_training"] = False
        made = trainer(plans, name, 0, dataset_json or dataset_json_of(channels=channels), DEVICE)
        if initialize:
            made.initialize()
        return made

    return make


@pytest.fixture(scope="session")
def two_ranks():
    """The process that all pairs of ranks are forked from, see two_ranks.py."""
    words = [sys.executable, str(Path(__file__).parents[1] / "two_ranks.py")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield server
        server.stdin.close()  # which ends it


@pytest.fixture
def on_two_ranks(two_ranks):
    """`(file, folder, trainer)` → `train_on_rank(rank, folder)` of a test file, run by two processes at once; with a
    trainer, each makes one like it and `train_on_rank(rank, folder, trainer)` gets that."""

    def run(file: str, folder: Path, trainer: nnUNetTrainer | None = None) -> None:
        if trainer is not None:
            described = {"configuration": trainer.configuration_name, "dataset_json": trainer.dataset_json}
            made = {"name": type(trainer).__name__, "plans": trainer.plans_manager.plans} | described
            (folder / "trainer.pkl").write_bytes(pickle.dumps(made))
        request = {"file": file, "folder": str(folder), "environment": dict(os.environ)}
        print(json.dumps(request), file=two_ranks.stdin, flush=True)
        statuses = json.loads(two_ranks.stdout.readline())
        logs = "".join(f"\nrank {rank}: {(folder / f'rank_{rank}.log').read_text()[-4000:]}" for rank in range(2))
        assert statuses == [0, 0], logs

    return run


@pytest.fixture
def make_unet_arguments():
    """`(dimensions, residual, …)` → what the constructors of our networks take, see UNetPlan.arguments."""

    def make(
        streams: list[list[int]],
        dimensions: int = 2,
        residual: bool = False,
        extra_channels: int = 0,
        deep_supervision: bool = False,
        num_classes: int = 3,
        **plans,
    ) -> dict:
        channels = sum(map(len, streams)) + extra_channels
        made = plans_of(dimensions, residual, channels, **plans)
        (name,) = made["configurations"]
        configuration = PlansManager(made).get_configuration(name)
        return UNetPlan.from_configuration(configuration, channels, num_classes, deep_supervision, streams).arguments

    return make


@pytest.fixture
def count_conv_outputs():
    """`(network, *inputs)` → numbers in the outputs of all convolutions that run, per sample."""

    def count(network: nn.Module, *inputs: torch.Tensor) -> int:
        sizes = []
        kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        hooks = [
            module.register_forward_hook(lambda module, args, output: sizes.append(output[0].numel()))
            for module in network.modules()
            if isinstance(module, kinds)
        ]
        with torch.no_grad():
            network(*inputs)
        for hook in hooks:
            hook.remove()
        return sum(sizes)

    return count


@pytest.fixture(autouse=True)
def _same_random_numbers():
    torch.manual_seed(0)


def _assert_equal(ours, theirs):
    assert type(ours) is type(theirs)
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            _assert_equal(ours[key], theirs[key])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs):
            _assert_equal(one, other)
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs)
    else:
        assert ours == theirs


@pytest.fixture
def assert_equal():
    """Of states, nested as they may be: every number, to the bit."""
    return _assert_equal
