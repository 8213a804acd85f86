"""Levels and stages of whatever U-Net a trainer builds."""

import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.tasks.segmentation.stages import stages_by_level
from nnunet_xmodal.trainers import TRAINERS

SEGMENTING = [
    name
    for name in TRAINERS
    if getattr(trainers, name).predictor_class is SegmentationPredictor
    and name not in ("nnUNetTrainerStream2", "nnUNetTrainerStream3")  # which two channels have not
]
OF_LEVEL_2 = {"": 2, "CSAD": 3, "CSADLateFusion": 4, "CMFF": 4, "AnyStreams": 3, "HyperDenseNet": 2, "UNetPlusPlus": 2}
"""Stages of encoders and decoders: two streams have one encoder each, and CMFF one decoder each, too."""


@pytest.fixture
def build(make_plans):
    def build(kind, residual=False):
        manager = PlansManager(make_plans(2, residual=residual, streams=[[0], [1]]))
        return kind.build_network_architecture(manager, manager.get_configuration("2d"), 2, 3, False).eval()

    return build


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("name", one_fast_in(2, ["nnUNetTrainer", *SEGMENTING]))
def test_every_level_has_stages_of_encoder_and_decoder(name, residual, build, monkeypatch):
    monkeypatch.setattr(trainers.nnUNetTrainerCSADPaper, "slice_size", (16, 16))
    network = build(nnUNetTrainer if name == "nnUNetTrainer" else getattr(trainers, name), residual)
    tile = torch.randn(1, 2, 16, 16)
    expected = network(tile)
    found = stages_by_level(network, tile)
    assert list(found) == [1, 2, 3]
    assert all(len(found[level]) >= 2 for level in (1, 2)) and found[3]
    stages = [stage for of_level in found.values() for stage in of_level]
    assert all(network.get_submodule(stage) for stage in stages)
    assert not [one for one in stages for other in stages if other.startswith(f"{one}.")]  # each once
    assert torch.equal(network(tile), expected)  # no hook is left
    kind = name.removeprefix("nnUNetTrainer")
    assert len(found[2]) == OF_LEVEL_2.get(kind, len(found[2])), found


def test_the_fusion_branch_of_cmff_has_its_map(build):
    assert stages_by_level(build(trainers.nnUNetTrainerCMFF), torch.randn(1, 2, 16, 16))[1] == [
        "branches.A.encoder.stages.0.0",
        "branches.A.decoder.stages.1.convs.0",
        "branches.B.encoder.stages.0.0",
        "branches.B.decoder.stages.1.convs.0",
        "fusion.last",
    ]
