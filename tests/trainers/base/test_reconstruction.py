"""A regression of one's own is a subclass of a few lines."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.trainers.base.reconstruction import Patches, ReconstructionTrainer


class nnUNetTrainerSmoothL1(ReconstructionTrainer):
    """As documentation/how-to/reconstruct.md has it."""

    num_epochs = 100

    def losses(self, prediction: torch.Tensor, patches: Patches) -> dict[str, torch.Tensor]:
        error = F.smooth_l1_loss(prediction, patches.target, reduction="none")
        return {"loss": (error * patches.mask).sum() / patches.mask.sum()}


@pytest.fixture
def make(make_trainer, make_plans):
    def make(kind=nnUNetTrainerSmoothL1, dimensions=3, channels=3, outputs=1, initialize=True):
        plans = make_plans(dimensions=dimensions, channels=channels)
        plans["xmodal"] = TargetChannel(channels - 1, outputs).as_plans()
        return make_trainer(kind, plans, initialize=initialize)

    return make


def batch_for(trainer, dimensions=3, channels=3):
    size = [16] * dimensions
    data = torch.randn(2, channels, *size)
    data[:, -1] = data[:, :-1].sum(1)
    mask = torch.zeros(2, 1, *size, dtype=torch.int16)
    mask[:, :, 4:12] = 1
    return {"data": data, "target": mask, "keys": ["a", "b"]}


@pytest.mark.parametrize("kind", [ReconstructionTrainer, nnUNetTrainerSmoothL1])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_learns_an_image_from_images(make, kind, dimensions):
    trainer = make(kind, dimensions)
    assert trainer.predictor_class is ReconstructionPredictor
    assert trainer.plans_manager.plans["xmodal"]["streams"] == [[0], [1]]
    trainer.network.train()
    batch = batch_for(trainer, dimensions)
    losses = [trainer.train_step(batch)["loss"] for _ in range(30)]
    assert losses[-1] < 0.7 * losses[0]
    trainer.network.eval()
    with torch.no_grad():
        result = trainer.validation_step(batch)
        assert trainer.network(batch["data"][:, :2]).shape == (2, 1, *[16] * dimensions)
    assert 0.5 < result["score"] < 1 and np.isfinite(result["loss"])


def test_nothing_outside_the_mask_counts(make):
    trainer = make(ReconstructionTrainer)
    patches = trainer.patches(batch_for(trainer))
    prediction = patches.target.clone()
    prediction[patches.mask == 0] += 100
    assert trainer.losses(prediction, patches)["loss"] == 0
    prediction[patches.mask > 0] += 2
    assert trainer.losses(prediction, patches)["loss"] == pytest.approx(2)


def test_an_ignored_voxel_is_none_of_the_mask(make_trainer, make_plans):
    plans = make_plans(dimensions=3, channels=3)
    plans["xmodal"] = TargetChannel(2).as_plans()
    labels = {"background": 0, "brain": 1, "ignore": 2}
    names = {str(channel): f"channel {channel}" for channel in range(3)}
    trainer = make_trainer(
        ReconstructionTrainer, plans, {"channel_names": names, "labels": labels, "file_ending": ".nii.gz"}
    )
    batch = batch_for(trainer)
    batch["target"][:, :, 4:6] = 2
    mask = trainer.patches(batch).mask
    assert (mask[:, :, 4:6] == 0).all() and (mask[:, :, 6:12] == 1).all()


def test_the_network_follows_the_plans_target_and_not_the_labels(make):
    trainer = make(channels=4, outputs=2)
    network = trainer.network.eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 3, 16, 16, 16)).shape == (1, 2, 16, 16, 16)
    assert trainer.label_manager.num_segmentation_heads == 3
    with pytest.raises(XModalError, match="trained on 3 input channels but got 4"):
        network.network(torch.zeros(1, 4, 16, 16, 16))


def test_deep_supervision_cannot_be_switched(make):
    trainer = make()
    trainer.set_deep_supervision_enabled(True)
    assert isinstance(trainer.network.eval()(torch.zeros(1, 2, 16, 16, 16)), torch.Tensor)


def test_intensities_stay_in_nnunets_augmentation(make):
    trainer = make()
    _, transforms = trainer.augmentation()
    names = " ".join(type(getattr(t, "transform", t)).__name__ for t in transforms.transforms)
    assert "Spatial" in names and "Mirror" in names
    assert not any(word in names for word in ("Noise", "Blur", "Gamma", "Contrast", "Brightness", "LowResolution"))
    image, mask = torch.ones(3, 24, 24, 24), torch.ones(1, 24, 24, 24, dtype=torch.int16)
    for _ in range(5):
        result = transforms(image=image.clone(), segmentation=mask)["image"]
        assert result.shape[1:] == (16, 16, 16) and result.max() < 1 + 1e-4
