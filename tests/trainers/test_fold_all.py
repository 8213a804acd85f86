"""Fold `all`, which trains on every case and validates the same ones."""

import pytest

from nnunet_xmodal import trainers

SEGMENTING = [name for name in trainers.TRAINERS if getattr(trainers, name).takes_incomplete_cases]


@pytest.mark.parametrize("name", ["nnUNetTrainerMultiStream", *SEGMENTING])
def test_the_cases_of_fold_all_are_found_in_its_validation_too(name, make_trainer, make_plans):
    """nnU-Net asks the class of the dataset for them, and our validation puts another one in its place."""
    trainer = make_trainer(name, make_plans(streams=[[0], [1]]), initialize=False)
    trainer.fold = "all"
    assert trainer.do_split() == (["case"], ["case"])
    with trainer.validating():
        assert trainer.do_split() == (["case"], ["case"])
