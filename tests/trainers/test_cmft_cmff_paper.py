"""The settings of the paper's training (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 4.1)."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn

from nnunet_xmodal import trainers

BOTH = pytest.mark.parametrize("name", ["nnUNetTrainerCMFTPaper", "nnUNetTrainerCMFFPaper"])
PAIRS = [[0, 1], [2, 3]]


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name, dimensions=2, kind="labels", **plans):
        return make_trainer(
            name, make_plans(dimensions, channels=4, streams=PAIRS, **plans), make_dataset_json(kind, 4)
        )

    return make


def batch_of(channels=4):
    return {
        "data": torch.randn(1, channels, 16, 16),
        "target": torch.randint(0, 3, (1, 1, 16, 16), dtype=torch.int16),
        "keys": ["a"],
    }


@BOTH
@pytest.mark.parametrize("dimensions", [2, 3])
def test_adam_at_one_ten_thousandth_on_single_patches(make, name, dimensions):
    trainer = make(name, dimensions, batch_size=7)
    assert trainer.batch_size == trainer.configuration_manager.batch_size == 1
    optimizers = getattr(trainer, "optimizers", {"all": trainer.optimizer})
    for optimizer in optimizers.values():
        assert type(optimizer) is torch.optim.Adam
        for group in optimizer.param_groups:
            assert (group["lr"], group["weight_decay"], group["betas"]) == (1e-4, 0, (0.9, 0.999))
    assert set(optimizers) == ({"generators", "discriminators"} if "CMFT" in name else {"all"})
    assert trainer.num_epochs == 1000 and not trainer.enable_deep_supervision


def test_the_losses_are_the_papers(make):
    transition = make("nnUNetTrainerCMFTPaper")
    assert (transition.lam, transition.identity_weight, transition.paired_weight) == (10, 0, 0)
    assert transition.discriminator_factor == 1
    trainer = make("nnUNetTrainerCMFFPaper")
    batch = batch_of()
    output = trainer.network.train()(batch["data"])
    loss = trainer.loss.segmentation_loss
    assert loss.weight_ce == 0 and loss.weight_dice == 1
    expected = sum(loss.dc(logits, batch["target"]) for logits in (output[0], *output[1]))
    torch.testing.assert_close(trainer.loss(output, batch["target"]), expected)


@BOTH
@pytest.mark.parametrize("kind", ["labels", "labels+ignore", "regions"])
def test_nothing_is_done_to_a_patch(make, name, kind):
    trainer = make(name, kind=kind)
    rotation, dummy_2d, loaded, mirrored = trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    assert list(loaded) == list(trainer.configuration_manager.patch_size)
    assert trainer.inference_allowed_mirroring_axes is None
    regions = trainer.label_manager.foreground_regions if trainer.label_manager.has_regions else None
    transforms = trainer.get_training_transforms(
        loaded, rotation, None, mirrored, dummy_2d, use_mask_for_norm=[False] * 4, regions=regions
    )
    kinds = [each.transform if isinstance(each, RandomTransform) else each for each in transforms.transforms]
    assert not any(isinstance(each, SpatialTransform | MirrorTransform) for each in kinds)
    image, labels = torch.randn(4, 16, 16), torch.randint(0, 3, (1, 16, 16), dtype=torch.int16)
    assert torch.equal(transforms(image=image.clone(), segmentation=labels)["image"], image)


class Dataset:
    """One case of zeros with a single voxel of label."""

    identifiers = ["case"]
    voxel = (1, 0, 40, 9)

    def load_case(self, _):
        label = np.zeros((1, 1, 48, 48), np.int16)
        label[0, 0, 40, 9] = 1
        locations = {1: np.array([(0, 0, 40, 9)]), 2: []}
        return np.zeros((4, 1, 48, 48), np.float32), label, None, {"class_locations": locations}


@BOTH
def test_every_patch_lies_around_the_tumour(make, name, monkeypatch):
    trainer = make(name)
    if "CMFT" in name:
        loader = trainer.make_loader(Dataset(), trainer.configuration_manager.patch_size, None)
    else:
        monkeypatch.setattr(trainer, "get_tr_and_val_datasets", lambda: (Dataset(), Dataset()))
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        training, _ = trainer.get_dataloaders()
        loader = training.data_loader
        loader.transforms = None
    for _ in range(8):
        assert loader.generate_train_batch()["target"][0, 0, 8, 8] == 1


@BOTH
def test_gradients_are_not_clipped(make, name, monkeypatch):
    trainer = make(name)
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda *_: pytest.fail("clipped"))
    trainer.network.train()
    assert np.isfinite(trainer.train_step(batch_of())["loss"])


def test_the_second_phase_starts_from_the_first(make, tmp_path):
    first, second = make("nnUNetTrainerCMFTPaper"), make("nnUNetTrainerCMFFPaper")
    first.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    load_pretrained_weights(second.network, str(tmp_path / "checkpoint_final.pth"))
    for branch in "AB":
        theirs = first.network.branches[branch].state_dict()
        for key, value in second.network.branches[branch].state_dict().items():
            assert "seg_layers." in key or torch.equal(value, theirs[key])


@BOTH
@pytest.mark.parametrize("patch, width, papers", [((16, 16, 16), 4, False), ((128, 128, 128), 16, True)], ids=str)
def test_plans_of_another_size_are_told(make, name, patch, width, papers, monkeypatch):
    lines = []
    trainer_class = getattr(trainers, name)
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    configuration = SimpleNamespace(patch_size=patch, network_arch_init_kwargs={"features_per_stage": [width]})
    trainer = make(name)
    monkeypatch.setattr(trainer, "configuration_manager", configuration)
    monkeypatch.setattr(trainer, "print_to_log_file", lambda *words: lines.append(" ".join(map(str, words))))
    trainer_class.on_train_start(trainer)
    assert ("the paper 128×128×128 and 16" in "\n".join(lines)) == (not papers)
