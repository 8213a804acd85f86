"""Costs are counted on shapes alone, and equal those of the network that runs."""

import json

import pytest
import torch
from fast_ones import one_fast_in
from torch.nn.attention import SDPBackend, sdpa_kernel  # torch does not count what the CPU's fused kernel does
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal import trainers
from nnunet_xmodal.comparison.cost import network_cost, seconds
from nnunet_xmodal.files.training_log import TrainingLog
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer
from nnunet_xmodal.trainers.base.reconstruction import ReconstructionTrainer
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer

# those that take a plan of any U-Net; the others: in the tests of their trainers
OF_THEIR_OWN = (FewShotTrainer, RegistrationTrainer, ReconstructionTrainer)
TRAINERS = [name for name in trainers.TRAINERS if not issubclass(getattr(trainers, name), OF_THEIR_OWN)]


@pytest.mark.parametrize("trainer", one_fast_in(6, (name for name in TRAINERS if not name[-1].isdigit())))
def test_cost_equals_that_of_the_network_that_runs(trainer, make_plans, make_dataset_json, make_trainer, tmp_path):
    plans = make_plans(dimensions=2, channels=2)
    (configuration,) = plans["configurations"]
    dataset_json = make_dataset_json(channels=2)
    made = make_trainer(trainer, plans, dataset_json)
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset_json))
    network = made.plain_network.eval()
    made.set_deep_supervision_enabled(False)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, 2, *plans["configurations"][configuration]["patch_size"]))
    parameters, flops = network_cost(tmp_path, trainer, configuration)
    assert flops == counter.get_total_flops()
    deep_supervision = sum(parameter.numel() for name, parameter in network.named_parameters() if "seg_layers" in name)
    assert parameters <= sum(parameter.numel() for parameter in network.parameters()) <= parameters + deep_supervision


def test_unknown_times_are_nan():
    per_epoch, per_case = seconds([TrainingLog()])
    assert per_epoch != per_epoch and per_case != per_case
