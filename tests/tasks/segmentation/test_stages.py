"""Levels and stages of whatever U-Net a trainer builds."""

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.tasks.segmentation.stages import stages_by_level


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    "trainer, of_level_2",
    [("", 2), ("CSAD", 3), ("CSADLateFusion", 4), ("CMFF", 2), ("AnyStreams", 3), ("FA", 2), ("AG", 2), ("Stream1", 2)],
)
def test_every_level_has_its_stages(trainer, of_level_2, residual, make_plans, make_dataset_json):
    plans = make_plans(2, residual=residual, streams=[[0], [1]])
    manager = PlansManager(plans)
    kind = getattr(trainers, f"nnUNetTrainer{trainer}") if trainer else nnUNetTrainer
    network = kind.build_network_architecture(manager, manager.get_configuration("2d"), 2, 3, False).eval()
    tile = torch.randn(1, 2, 16, 16)
    expected = network(tile)
    found = stages_by_level(network, tile)
    assert list(found) == [1, 2, 3]
    assert len(found[2]) >= of_level_2 and all(network.get_submodule(name) for name in found[2])
    assert torch.equal(network(tile), expected)  # no hook is left
