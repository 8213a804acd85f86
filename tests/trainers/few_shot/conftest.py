"""Narrow backbones with random weights, and trainers with them."""

import pytest
import timm
from few_shot_episodes import SIZE, NarrowResNet18, few_shot_plans

from nnunet_xmodal.networks import lite_backbone, resnet_backbone


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Whatever the width of a backbone, the method is the same; test_resnet_backbone.py is about the real ones."""
    monkeypatch.setitem(resnet_backbone._BUILDERS, "resnet18", NarrowResNet18)


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    monkeypatch.setattr(resnet_backbone, "_downloaded", lambda name, weights: None)


@pytest.fixture(autouse=True)
def random_lite(monkeypatch):
    monkeypatch.setattr(lite_backbone, "_package_weights", lambda weights: random_state())


def random_state():
    """As the package's file: the same layers in the same order, under other names."""
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {f"_{number}": value for number, value in enumerate(state.values())}


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name, channels=1, kind="labels", initialize=True, size=SIZE):
        plans = few_shot_plans(make_plans(channels=channels, patch_size=size, batch_size=1), size)
        return make_trainer(name, plans, make_dataset_json(kind, channels), initialize)

    return make
