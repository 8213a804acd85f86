"""What all trainers do before and after nnU-Net's epochs."""

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


@pytest.mark.parametrize(("epochs_done", "drawn"), [(0, 0), (2, 0), (3, 1)])
def test_a_training_that_goes_on_behind_its_last_epoch_draws_the_picture_that_was_missed(
    make_trainer, make_plans, monkeypatch, epochs_done, drawn
):
    trainer = make_trainer("nnUNetTrainerFA_3epochs", make_plans())
    pictures = []
    monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
    monkeypatch.setattr(trainer.logger, "plot_progress_png", pictures.append)
    trainer.current_epoch = epochs_done
    trainer.on_train_start()
    assert pictures == [trainer.output_folder] * drawn
