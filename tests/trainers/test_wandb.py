"""nnU-Net's own Weights & Biases logger gets every epoch of trainers of every kind."""

from types import SimpleNamespace

import numpy as np
import pytest
from few_shot_episodes import NarrowResNet18, few_shot_plans
from nnunetv2.training.logging import nnunet_logger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.networks import resnet_backbone
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor
from nnunet_xmodal.trainers.base import few_shot_validation
from nnunet_xmodal.trainers.base.own_task import OwnTaskTrainer
from nnunet_xmodal.trainers.base.trainer import XModalTrainer

SEGMENTERS = [
    "nnUNetTrainer",
    *(f"nnUNetTrainer{name}" for name in ("FA", "MultiStream", "CSAD", "AnyStreams", "CMFF")),
]
SYNTHESIS = [f"nnUNetTrainer{name}" for name in ("CMFTPaired", "CMFT", "SelfReconstruction")]
REGISTRATION, RECONSTRUCTION = "nnUNetTrainerAttentionReg", "nnUNetTrainerQSMDirect"
FEW_SHOT = "nnUNetTrainerPANetR18"
EVERY_KIND = [*SEGMENTERS, *SYNTHESIS, REGISTRATION, RECONSTRUCTION, FEW_SHOT]


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


@pytest.fixture
def made(make_trainer, make_plans, monkeypatch):
    """`(name)` → trainer on the plans that it needs."""
    monkeypatch.setitem(resnet_backbone._BUILDERS, "resnet18", NarrowResNet18)
    monkeypatch.setattr(resnet_backbone, "_downloaded", lambda name, weights: None)

    def make(name):
        if name == FEW_SHOT:
            return make_trainer(name, few_shot_plans(make_plans(channels=1, patch_size=(64, 64), batch_size=1)))
        plans = make_plans(3 if name in (REGISTRATION, RECONSTRUCTION) else 2, channels=2)
        if name == RECONSTRUCTION:
            plans["xmodal"] = TargetChannel(1, 1).as_plans()
        if name == REGISTRATION:
            plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] = {"grid": [16, 16, 16]}
        return make_trainer(nnUNetTrainer if name == "nnUNetTrainer" else name, plans)

    return make


def test_there_is_a_trainer_of_every_kind():
    kinds = {getattr(trainers, name).predictor_class for name in trainers.TRAINERS}
    tried = {getattr(trainers, name).predictor_class for name in EVERY_KIND[1:]}
    known = {SegmentationPredictor, SynthesisPredictor, RegistrationPredictor, FewShotPredictor}
    assert known < tried and any(issubclass(kind, ReconstructionPredictor) for kind in tried)
    for kind in kinds:
        assert any(issubclass(kind, other) or issubclass(other, kind) for other in tried), kind


@pytest.mark.parametrize("name", EVERY_KIND)
def test_every_epoch_is_logged(name, made, run):
    trainer = made(name)
    counts = {f"{which}_hard": np.array([3.0, 1.0]) for which in ("tp", "fp", "fn")}
    own = {"score": 0.7, "sre": 3.0}
    for epoch in range(2):
        trainer.on_epoch_start()
        trainer.on_train_epoch_end([{"loss": np.float32(0.5), "another": 0.1}])
        trainer.on_validation_epoch_end(
            [{"loss": np.float32(0.4), **(own if isinstance(trainer, OwnTaskTrainer) else counts)}]
        )
        trainer.on_epoch_end()
        logged = {key for step, key, _ in run.logged if step == epoch}
        assert logged >= {"train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice", "epoch_end_timestamps"}


@pytest.fixture
def without_cases(monkeypatch):
    """`(trainer)` whose final validation finds none to load."""

    def leave(trainer):
        monkeypatch.setattr(trainer, "do_split", lambda: ([], []))
        monkeypatch.setattr(trainer, "dataset_class", lambda *arguments, **others: None)
        return trainer

    return leave


@pytest.mark.parametrize("name", [*SYNTHESIS, REGISTRATION, RECONSTRUCTION])
def test_means_of_the_final_validation_are_logged(name, made, run, without_cases, monkeypatch):
    trainer = without_cases(made(name))
    monkeypatch.setattr(trainer, "validate", lambda *_: {"SSIM": 0.9})
    trainer.perform_actual_validation()
    assert run.summary["final_val/SSIM"] == 0.9


def test_the_protocol_of_few_shot_papers_is_logged_beside_nnunets_validation(made, run, without_cases, monkeypatch):
    trainer = without_cases(made(FEW_SHOT))
    monkeypatch.setattr(XModalTrainer, "perform_actual_validation", lambda *_: None)
    monkeypatch.setattr(trainer, "along_one_axis", lambda dataset: dataset)
    monkeypatch.setattr(few_shot_validation, "add_protocol", lambda *_: 0.8)
    trainer.perform_actual_validation()
    assert run.summary["final_val/protocol_Dice"] == 0.8
