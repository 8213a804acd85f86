"""Pretrained weights of backbones, on a machine without a network."""

from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from few_shot_episodes import SIZE, NarrowResNet18, batch_for

from nnunet_xmodal import trainers
from nnunet_xmodal.networks import resnet_backbone

DOWNLOADED = resnet_backbone._downloaded


class TestWeights:
    """Of a backbone, on a machine without a network."""

    @pytest.fixture
    def attempts(self, monkeypatch):
        """The addresses that were asked for; none answers."""
        asked = []

        def fails(self, *args, **kwargs):
            asked.append(self.url)
            raise URLError("no route to host")

        monkeypatch.setattr(resnet_backbone, "_downloaded", DOWNLOADED)  # the download itself is what fails
        monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", fails)
        monkeypatch.setattr(resnet_backbone, "_said", set())
        return asked

    def test_the_fallback_is_said_once_and_the_training_goes_on(self, attempts, make, capsys):
        for _ in range(2):
            trainer = make("nnUNetTrainerALPR18")
        assert len(attempts) == 2
        said = [line for line in capsys.readouterr().out.splitlines() if "random weights" in line]
        assert len(said) == 1 and "resnet18 starts from random weights" in said[0] and attempts[0] in said[0]
        trainer.network.train()
        assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])

    def test_nothing_but_a_training_asks_for_weights(self, attempts, make, own_task):
        trainer = make("nnUNetTrainerCRTPR18", initialize=False)
        trainer.num_input_channels = 1
        trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3, False)
        parameters, flops = own_task.cost(trainer)
        assert not attempts
        trainer.initialize()
        assert len(attempts) == 1
        assert parameters == sum(p.numel() for p in trainer.network.parameters())
        trainer.network.support.masks.fill_(1)  # the cost is that of the largest masks: outside, little is computed
        assert flops == own_task.counted_flops(trainer.network, 1, 1, *SIZE)

    def test_a_file_of_weights_is_a_class_attribute(self, attempts, make, tmp_path):
        torch.save(NarrowResNet18().state_dict(), tmp_path / "own.pth")

        class Own(trainers.nnUNetTrainerALPR18):
            weights = str(tmp_path / "own.pth")

        own = torch.load(tmp_path / "own.pth")
        assert torch.equal(make(Own).network.backbone.conv1.weight, own["conv1.weight"]) and not attempts
