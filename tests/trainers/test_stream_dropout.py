import pytest
import torch

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.trainers.stream_dropout import DropsStreams

NAMES = [name for name in trainers.TRAINERS if issubclass(getattr(trainers, name), DropsStreams)]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_trainer_of_that_name_with_a_block(make_trainer, make_plans, name):
    trainer, plain = (make_trainer(n, make_plans()) for n in (name, name.removesuffix("Dropout")))
    assert trainer.network.stream_dropout.probability == trainer.stream_dropout == 0.25
    assert plain.network.stream_dropout is None
    assert [*plain.network.state_dict()] == [*trainer.network.state_dict()]


@pytest.mark.parametrize("name", NAMES)
def test_the_probability_is_an_attribute(make_trainer, make_plans, name):
    rarely = type("nnUNetTrainerRarely", (getattr(trainers, name),), {"stream_dropout": 0.1})
    assert make_trainer(rarely, make_plans()).network.stream_dropout.probability == 0.1


def test_one_stream_is_not_dropped(make_trainer, make_plans):
    with pytest.raises(XModalError, match=r"nnUNetTrainerMultiStreamDropout drops streams but the plans hold one"):
        make_trainer("nnUNetTrainerMultiStreamDropout", make_plans(channels=1))


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("name", NAMES)
def test_the_loss_of_a_batch_teaches_the_present_stream_alone(make_trainer, make_plans, make_dataset_json, name, kind):
    """Batch Dice and distillation included."""
    trainer = make_trainer(name, make_plans(), make_dataset_json(kind, 2))
    network, loss = trainer.network.train(), trainer._build_loss()
    sizes = [(2, 2, side, side) if kind == "regions" else (2, 1, side, side) for side in (16, 8)]
    target = [torch.randint(0, 2, size).bool() if kind == "regions" else torch.randint(0, 3, size) for size in sizes]
    encoders = [*network.branches.values()] if hasattr(network, "branches") else [*network.encoder.streams]
    for present, of_absent, of_present in ([[True, False]] * 2, 1, 0), ([[False, True]] * 2, 0, 1):
        network.zero_grad()
        loss(network(torch.randn(2, 2, 16, 16), torch.tensor(present)), target).backward()
        learning = [{n for n, p in of.named_parameters() if p.grad is not None and p.grad.any()} for of in encoders]
        assert not learning[of_absent]
        convolutions = {n for n, p in encoders[of_present].named_parameters() if p.dim() > 1}
        # nnU-Net's loss leaves out the coarsest level
        assert learning[of_present] >= {n for n in convolutions if "seg_layers.0" not in n}
