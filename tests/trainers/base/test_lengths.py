import pickle

import pytest
import torch
from fast_ones import one_fast_in
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from nnunet_xmodal import trainers
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base.names import without_length

NAMES = ("nnUNetTrainer", *TRAINERS)


@pytest.fixture(autouse=True)
def found(nnunet_folders):
    """nnUNet_extTrainer points at our plugin."""


@pytest.mark.parametrize("name", one_fast_in(4, TRAINERS))
def test_nnunet_finds_every_trainer(name):
    trainer = recursive_find_trainer_class_by_name(name)
    assert trainer is getattr(trainers, name)
    assert trainer.__name__ == name and issubclass(trainer, nnUNetTrainer)


@pytest.mark.parametrize("length", ["_7epochs", "_7epochs_11its"])
@pytest.mark.parametrize("name", NAMES)
def test_every_trainer_of_a_length_is_one_class_that_pickles(name, length):
    trainer = getattr(trainers, name + length)
    assert trainer is getattr(trainers, name + length)
    assert trainer.__name__ == name + length
    assert issubclass(trainer, nnUNetTrainer if name == "nnUNetTrainer" else getattr(trainers, name))
    assert pickle.loads(pickle.dumps(trainer)) is trainer


@pytest.mark.parametrize("name", ["nnUNetTrainer_7epochs", f"{TRAINERS[0]}_7epochs_11its", f"{TRAINERS[-1]}_7epochs"])
def test_nnunet_finds_a_trainer_of_a_length(name):
    """Its search asks the plugin, which hands every name on to the package."""
    assert recursive_find_trainer_class_by_name(name) is getattr(trainers, name)


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainerCSAD", "nnUNetTrainerStream0"])
@pytest.mark.parametrize(
    "length, epochs, iterations, validation",
    [
        ("_7epochs", 7, 250, 50),
        ("_7epochs_11its", 7, 11, 2),
        ("_1epochs_1its", 1, 1, 1),
        ("_200epochs_500its", 200, 500, 100),
    ],
)
def test_the_length_is_what_the_name_says(make_trainer, make_plans, name, length, epochs, iterations, validation):
    trainer = make_trainer(recursive_find_trainer_class_by_name(name + length), make_plans(), initialize=False)
    assert trainer.num_epochs == epochs
    assert trainer.num_iterations_per_epoch == iterations
    assert trainer.num_val_iterations_per_epoch == validation
    assert name + length in trainer.output_folder, "a results folder of its own"


def test_the_learning_rate_falls_to_the_end_of_the_length(make_trainer, make_plans):
    trainer = make_trainer("nnUNetTrainerCSAD_7epochs", make_plans())
    rates = []
    for epoch in range(7):
        trainer.lr_scheduler.step(epoch)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates[0] == trainer.initial_lr
    assert rates[-1] == pytest.approx(trainer.initial_lr * (1 - 6 / 7) ** 0.9)


@pytest.mark.parametrize(
    "name",
    [
        "nnUNetTrainerCASD",
        "nnUNetTrainerCASD_7epochs",
        "nnUNetTrainerCSAD_0epochs",
        "nnUNetTrainerCSAD_07epochs",
        "nnUNetTrainerCSAD_7epoch",
        "nnUNetTrainerCSAD_7epochs_0its",
        "nnUNetTrainerCSAD_7epochs_11its_2",
        "nnUNetTrainerCSAD_7epochs_7epochs",
        "nnUNetTrainerCSAD_11its",
        "nnUNetTrainerDA5_7epochs",
    ],
)
def test_a_typo_still_gets_nnunets_own_error(name):
    with pytest.raises(RuntimeError, match=f"Could not find requested nnunet trainer {name} in"):
        recursive_find_trainer_class_by_name(name)
    assert not hasattr(trainers, name)


def test_stock_trainers_stay_stock():
    for name in ("nnUNetTrainer", "nnUNetTrainer_5epochs", "nnUNetTrainerNoMirroring"):
        assert recursive_find_trainer_class_by_name(name).__module__.startswith("nnunetv2.")


def test_a_trainer_that_cannot_be_imported_breaks_only_itself(monkeypatch):
    monkeypatch.setitem(trainers._MODULE_OF, "nnUNetTrainerSCFF", "needs_a_missing_package")
    for name in ("nnUNetTrainerSCFF", "nnUNetTrainerSCFF_8epochs"):
        with pytest.raises(ModuleNotFoundError, match="needs_a_missing_package"):
            recursive_find_trainer_class_by_name(name)
    for name in ("nnUNetTrainerCSAD", "nnUNetTrainerCSAD_8epochs", "nnUNetTrainer_8epochs"):
        assert recursive_find_trainer_class_by_name(name).__name__ == name
    with pytest.raises(RuntimeError, match="Could not find requested nnunet trainer nnUNetTrainerTypo"):
        recursive_find_trainer_class_by_name("nnUNetTrainerTypo")


def test_an_object_of_a_length_pickles(make_trainer, make_plans):
    trainer = make_trainer("nnUNetTrainerCSAD_7epochs_11its", make_plans())
    again = pickle.loads(pickle.dumps(trainer.network)).eval()
    trainer.set_deep_supervision_enabled(True)
    x = torch.randn(1, 2, 16, 16)
    assert torch.equal(again(x)[0], trainer.network.eval()(x)[0])


@pytest.mark.parametrize(
    "name, expected",
    [
        ("nnUNetTrainerCSAD_7epochs", "nnUNetTrainerCSAD"),
        ("nnUNetTrainerCSAD_7epochs_11its", "nnUNetTrainerCSAD"),
        ("nnUNetTrainerCSAD", "nnUNetTrainerCSAD"),
        ("nnUNetTrainerDA5_Mine", "nnUNetTrainerDA5_Mine"),
    ],
)
def test_without_length(name, expected):
    assert without_length(name) == expected
