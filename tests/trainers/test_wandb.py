"""nnU-Net's own Weights & Biases logger gets every epoch of segmenters and of trainings with tasks of their own."""

from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.training.logging import nnunet_logger

from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer

SEGMENTER, SYNTHESIS, REGRESSION = "nnUNetTrainerMultiStream", "nnUNetTrainerCMFTPaired", "nnUNetTrainerQSMDirect"


class Run:
    """Stands for a run of wandb: takes what JSON can hold, at steps that do not go back."""

    def __init__(self):
        self.config, self.summary, self.logged, self.step = {}, {}, [], 0

    def log(self, values, step):
        assert step >= self.step and all(np.isfinite(float(value)) for value in values.values())
        self.step = step
        self.logged += [(step, *item) for item in values.items()]


@pytest.fixture
def run(monkeypatch):
    run = Run()
    monkeypatch.setattr(nnunet_logger, "wandb", SimpleNamespace(init=lambda **_: run))
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    monkeypatch.setattr(nnunet_logger.MetaLogger, "plot_progress_png", lambda *_: None)  # a second of matplotlib
    return run


def made(name, make_trainer, make_plans):
    plans = make_plans(2 if name != REGRESSION else 3, channels=2, streams=[[0], [1]])
    if name == REGRESSION:
        del plans["xmodal"]["streams"]
        plans["xmodal"] |= TargetChannel(1, 1).as_plans()
    return make_trainer(name, plans)


@pytest.mark.parametrize("name", [SEGMENTER, SYNTHESIS, REGRESSION])
def test_every_epoch_is_logged(name, make_trainer, make_plans, run, monkeypatch):
    trainer = made(name, make_trainer, make_plans)
    own = isinstance(trainer, OwnTaskTrainer)
    counts = {f"{which}_hard": np.array([3.0, 1.0]) for which in ("tp", "fp", "fn")}
    for epoch in range(2):
        trainer.on_epoch_start()
        trainer.on_train_epoch_end([{"loss": np.float32(0.5)}])
        trainer.on_validation_epoch_end([{"loss": np.float32(0.4), **({"score": 0.7} if own else counts)}])
        trainer.on_epoch_end()
        logged = {key for step, key, _ in run.logged if step == epoch}
        assert logged >= {"train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "epoch_end_timestamps"}
    if own:
        monkeypatch.setattr(trainer, "do_split", lambda: ([], []))
        monkeypatch.setattr(trainer, "dataset_class", lambda *_: None)
        monkeypatch.setattr(trainer, "validate", lambda *_: {"SSIM": 0.9})
        trainer.perform_actual_validation()
        assert run.summary["final_val/SSIM"] == 0.9
