"""Models whose backbone tells intensities apart, and folders for --support."""

import numpy as np
import pytest
from few_shot_scans import PLANS, SIZE, TRAINER, IdealBackbone, write, write_json_in
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.tasks.few_shot.support import fill_support
from nnunet_xmodal.trainers.base import few_shot as few_shot_base


@pytest.fixture(autouse=True)
def ideal(monkeypatch):
    monkeypatch.setattr(few_shot_base, "ResNetBackbone", IdealBackbone)


@pytest.fixture
def make_model(write_model, make_plans, make_dataset_json):
    """`(kind, *supports, channels, labels)` → folder of a model with a fold for each support, a dataset in memory."""

    def make(*supports, kind="labels", channels=1, tints=(1.0,) * 5):
        plans = make_plans(2, channels=channels, patch_size=SIZE)
        plans["plans_name"] = PLANS
        dataset_json = make_dataset_json(kind, channels)
        configuration = plans["configurations"]["2d"]
        configuration["normalization_schemes"] = ["NoNormalization"] * channels
        configuration["architecture"] = {
            "network_class_name": "nnunet_xmodal.networks.prototype_network.PrototypeNetwork",
            "arch_kwargs": {"size": list(SIZE), "chunks": 3, "shots": 1},
            "_kw_requires_import": [],
        }
        plans["xmodal"] = {"streams": [[c] for c in range(channels)], "regions": kind.startswith("regions")}
        manager = PlansManager(plans)
        labels = manager.get_label_manager(dataset_json)
        build = (manager, manager.get_configuration("2d"), channels, labels.num_segmentation_heads, False)
        networks = [trainers.nnUNetTrainerPANetR18.build_network_architecture(*build) for _ in supports]
        for network, support, tint in zip(networks, supports, tints):
            nn.init.constant_(network.backbone.tint, tint)
            if support is not None:
                fill_support(network, support, labels)
        return write_model(TRAINER, plans, dataset_json, networks)

    return make


@pytest.fixture
def write_support(tmp_path):
    """`(labels, volumes, label_of)` → a folder for --support."""

    def make(labels, *volumes, label_of, channels=1, ending=".nii.gz", spacing=1.0, **more):
        folder = tmp_path / "support"
        described = {
            "channel_names": {str(index): f"MR{index}" for index in range(channels)},
            "labels": {"background": 0, **labels},
            "numTraining": len(volumes),
            "file_ending": ending,
        }
        write_json_in(folder, "dataset.json", described | more)
        for index, volume in enumerate(volumes):
            for channel in range(channels):
                write(folder / "imagesTr", f"own{index}_{channel:04d}{ending}", volume, spacing)
            write(folder / "labelsTr", f"own{index}{ending}", label_of(volume).astype(np.uint8), spacing)
        return folder

    return make
