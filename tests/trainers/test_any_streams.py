import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams


@pytest.mark.parametrize("name, weight", [("", 0.0), ("Distilled", 0.5)])
def test_trainings_see_every_sample_twice_and_predict_as_the_others(make_trainer, make_plans, name, weight):
    trainer = make_trainer(f"nnUNetTrainerAnyStreams{name}", make_plans())
    plain = make_trainer("nnUNetTrainerMultiStream", make_plans())
    assert isinstance(trainer.network.stream_dropout, SomeStreams)  # what --allow_missing asks for
    assert (trainer.loss.some_weight, trainer.loss.distillation, trainer.loss.regions) == (0.5, weight, False)
    own = {name for name in trainer.network.state_dict() if "reductions_of_some" in name}
    assert own and {*plain.network.state_dict()} == {*trainer.network.state_dict()} - own
    batch = {"data": torch.randn(2, 2, 16, 16), "keys": ["a", "b"]}
    batch["target"] = [torch.randint(0, 3, (2, 1, side, side), dtype=torch.int16) for side in (16, 8)]
    trainer.network.train()
    assert len(trainer.network(batch["data"])[0]) == 4
    before = [p.clone() for stream in trainer.network.encoder.streams for p in stream.parameters()]
    trainer.train_step(batch)
    after = [p for stream in trainer.network.encoder.streams for p in stream.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after) if a.dim() > 1)  # no stream sits out
    assert trainer.validation_step(batch)["loss"] > -1


def test_one_stream_has_no_subset(make_trainer, make_plans):
    with pytest.raises(XModalError, match=r"nnUNetTrainerAnyStreams fuses two or more streams but the plans hold one"):
        make_trainer("nnUNetTrainerAnyStreams", make_plans(channels=1))
