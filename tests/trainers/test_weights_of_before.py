"""Weights of models that were trained with versions of this package from before predict what they predicted then.

`weights_of_before.json` was made by commit a2ec114 of 20 November 2026: of every segmentation trainer of that day, the
names and shapes of its weights as a checksum, and some logits, where weights and input are waves that numbers alone
decide.
"""

import json
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.prediction.building import building

THEN = json.loads(Path(__file__).with_name("weights_of_before.json").read_text(encoding="utf-8"))
LATER = {"nnUNetTrainerFA": ".beta", "nnUNetTrainerCSADFA": ".beta"}
"""What weights of then lack: their folded attention is by the letter of Eq. 7."""


def waves(shape: torch.Size, phase: float) -> torch.Tensor:
    return torch.sin(0.7 * torch.arange(shape.numel(), dtype=torch.float64) + phase).float().reshape(shape)


def weights_of_then(network: nn.Module, later: str | None) -> dict[str, torch.Tensor]:
    """As waves; the names of streams in a network's buffers stay."""
    names = network.state_dict().items()
    weights = sorted((name, tensor) for name, tensor in names if not later or not name.endswith(later))
    return {
        name: 0.3 * waves(tensor.shape, index) if tensor.is_floating_point() else tensor
        for index, (name, tensor) in enumerate(weights)
    }


def network_of(name: str, make_plans, dimensions: int) -> nn.Module:
    plans = PlansManager(make_plans(dimensions, streams=[[0], [1]]))
    (configuration,) = plans.plans["configurations"]
    with building("predictor"):
        return getattr(trainers, name).build_network_architecture(
            plans, plans.get_configuration(configuration), 2, 3, False
        )


def layout(weights: dict[str, torch.Tensor]) -> str:
    return sha256(json.dumps([[name, *tensor.shape] for name, tensor in sorted(weights.items())]).encode()).hexdigest()


@pytest.mark.parametrize("name", THEN)
@pytest.mark.parametrize("dimensions", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_weights_have_their_names_and_give_their_logits(name, dimensions, make_plans):
    then = THEN[name][str(dimensions)]
    network = network_of(name, make_plans, dimensions).eval()
    weights = weights_of_then(network, LATER.get(name))
    assert layout(weights) == then["layout"]
    network.load_state_dict(weights)
    with torch.no_grad():
        logits = network(waves(torch.Size((1, 2, *[16] * dimensions)), 0.0))
    some = logits.flatten()[:: logits.numel() // 8]
    torch.testing.assert_close(some, torch.tensor(then["logits"]), rtol=1e-4, atol=2e-5)
