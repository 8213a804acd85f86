import json
from pathlib import Path

import pytest
import torch

from nnunet_xmodal.errors import XModalError


@pytest.fixture
def make(make_trainer, make_plans):
    def make(name="nnUNetTrainerCSAD", streams=None):
        return make_trainer(name, make_plans(channels=3, streams=streams or [[0, 1], [2]]))

    return make


@pytest.fixture
def checkpoint(tmp_path):
    return str(tmp_path / "checkpoint_latest.pth")


def weights_of(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.network.parameters()])


def change_weights(trainer):
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(torch.randn_like(parameter))


def test_what_is_saved_is_loaded(make, checkpoint):
    trainer, other = make(), make()
    trainer.current_epoch = 4
    trainer.save_checkpoint(checkpoint)
    assert not torch.equal(weights_of(trainer), weights_of(other))
    other.load_checkpoint(checkpoint)
    assert torch.equal(weights_of(trainer), weights_of(other))
    assert other.current_epoch == 5


@pytest.mark.parametrize(
    "name, value, sentence",
    [
        ("spacing", [3.0, 1.0], r"other plans \(spacing: \[1.0, 1.0\] → \[3.0, 1.0\]\): restore them, or train anew"),
        ("normalization_schemes", ["CTNormalization"] * 3, "normalization_schemes: .* → .*CTNormalization"),
        ("features_per_stage", None, r"features_per_stage: \[4, .*\] → \[8, "),
    ],
)
def test_plans_that_changed_since_are_told(make, make_trainer, checkpoint, name, value, sentence):
    """Weights of other layers ended in torch's words, and other images in none."""
    trainer = make()
    trainer.save_checkpoint(checkpoint)
    plans = json.loads(json.dumps(trainer.plans_manager.plans))
    (configuration,) = plans["configurations"].values()
    arguments = configuration["architecture"]["arch_kwargs"]
    doubled = [2 * width for width in arguments["features_per_stage"]]
    (arguments if name in arguments else configuration)[name] = value or doubled
    with pytest.raises(XModalError, match=sentence):
        make_trainer("nnUNetTrainerCSAD", plans).load_checkpoint(checkpoint)
    plans = json.loads(json.dumps(trainer.plans_manager.plans))
    plans["configurations"]["2d"]["batch_size"] = 7
    make_trainer("nnUNetTrainerCSAD", plans).load_checkpoint(checkpoint)


def test_weights_of_before_folded_attention_had_a_beta_cannot_be_trained_on(make, checkpoint):
    literal = make("nnUNetTrainerFALiteral")
    literal.train_step(
        {
            "data": torch.randn(2, 3, 16, 16),
            "target": [torch.zeros(2, 1, side, side) for side in (16, 8)],
            "keys": ["a", "b"],
        }
    )
    literal.save_checkpoint(checkpoint)
    content = torch.load(checkpoint, weights_only=False)
    content["trainer_name"] = "nnUNetTrainerFA"
    torch.save(content, checkpoint)
    with pytest.raises(XModalError, match="predicts, but its optimiser is of a network with other parameters"):
        make("nnUNetTrainerFA").load_checkpoint(checkpoint)


def test_nothing_but_the_checkpoint_is_left(make, checkpoint):
    make().save_checkpoint(checkpoint)
    assert [path.name for path in Path(checkpoint).parent.glob("checkpoint_latest*")] == ["checkpoint_latest.pth"]


def test_the_final_name_is_there_in_full_or_not_at_all(make, checkpoint, monkeypatch):
    """torch.save stops half-way: the disk is full, the process is killed."""
    trainer = make()
    trainer.save_checkpoint(checkpoint)
    saved, bytes_of_saved = weights_of(trainer), Path(checkpoint).read_bytes()

    def half_a_save(content, path):
        assert Path(path) != Path(checkpoint)
        Path(path).write_bytes(bytes_of_saved[: len(bytes_of_saved) // 2])
        raise OSError("No space left on device")

    change_weights(trainer)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half_a_save)
        for path in (checkpoint, checkpoint.replace("latest", "best")):
            with pytest.raises(XModalError, match="No space left"):
                trainer.save_checkpoint(path)
    assert not Path(checkpoint.replace("latest", "best")).exists()
    assert Path(checkpoint).read_bytes() == bytes_of_saved
    trainer.load_checkpoint(checkpoint)
    assert torch.equal(weights_of(trainer), saved)

    change_weights(trainer)
    trainer.save_checkpoint(checkpoint)  # what the failed attempt left does not matter
    assert Path(checkpoint).read_bytes() != bytes_of_saved
    make().load_checkpoint(checkpoint)


def test_checkpointing_switched_off_writes_nothing(make, checkpoint):
    trainer = make()
    trainer.disable_checkpointing = True
    trainer.save_checkpoint(checkpoint)
    assert not Path(checkpoint).exists()


def test_a_checkpoint_of_another_trainer_is_refused(make, checkpoint):
    make("nnUNetTrainerSCFF").save_checkpoint(checkpoint)
    trainer = make()
    before = weights_of(trainer)
    with pytest.raises(XModalError) as error:
        trainer.load_checkpoint(checkpoint)
    assert str(error.value) == (
        f"{checkpoint} was written by nnUNetTrainerSCFF and cannot be loaded by nnUNetTrainerCSAD."
    )
    assert torch.equal(weights_of(trainer), before)


def test_another_length_is_the_same_trainer(make, checkpoint):
    short, long = make("nnUNetTrainerCSAD_2epochs_4its"), make("nnUNetTrainerCSAD")
    short.save_checkpoint(checkpoint)
    long.load_checkpoint(checkpoint)
    assert torch.equal(weights_of(short), weights_of(long))


@pytest.mark.parametrize("streams", [[[2], [0, 1]], [[1, 0], [2]], [[0], [1, 2]]])
def test_a_checkpoint_of_other_streams_is_refused(make, checkpoint, streams):
    """Also where the shapes of all weights agree, as in the second."""
    make().save_checkpoint(checkpoint)
    with pytest.raises(XModalError) as error:
        make(streams=streams).load_checkpoint(checkpoint)
    assert f"{checkpoint} was trained with the streams [[0, 1], [2]]" in str(error.value)
    assert f"now say {streams}: restore the streams, or train anew without --c" in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(make, checkpoint, share):
    trainer = make()
    trainer.save_checkpoint(checkpoint)
    content = Path(checkpoint).read_bytes()
    Path(checkpoint).write_bytes(content[: int(share * len(content))])
    before = weights_of(trainer)
    with pytest.raises(XModalError, match="is no readable checkpoint .*: rename it to go on from") as error:
        trainer.load_checkpoint(checkpoint)
    assert str(error.value).startswith(checkpoint)
    assert torch.equal(weights_of(trainer), before)


def test_a_file_of_something_else_is_named(make, checkpoint):
    torch.save({"weights": 1}, checkpoint)
    with pytest.raises(XModalError, match="is no readable checkpoint") as error:
        make().load_checkpoint(checkpoint)
    assert str(error.value).startswith(checkpoint)


def test_saved_every_epoch(make):
    assert make().save_every == 1


@pytest.mark.parametrize("who", ["another rank", "a training without checkpoints"])
def test_a_half_written_file_of_someone_else_is_not_promoted(make, checkpoint, who):
    trainer = make()
    trainer.save_checkpoint(checkpoint)
    intact = Path(checkpoint).read_bytes()
    half = Path(checkpoint).with_name(".tmp_another") / Path(checkpoint).name
    half.parent.mkdir()
    half.write_bytes(b"half")
    if who == "another rank":
        trainer.local_rank = 1
    else:
        trainer.disable_checkpointing = True
    trainer.save_checkpoint(checkpoint)
    assert Path(checkpoint).read_bytes() == intact and half.read_bytes() == b"half"


def test_folds_of_one_model_cannot_have_different_streams(make):
    """They share plans.json, by which prediction builds the network."""
    first, second = make(), make(streams=[[0], [1, 2]])
    model = Path(first.output_folder_base)
    (model / "fold_4").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(first.plans_manager.plans))
    first.save_checkpoint(str(model / "fold_4" / "checkpoint_best.pth"))
    first._check_streams_of_other_folds()
    with pytest.raises(
        XModalError, match=r"fold_4 was trained with the streams \[\[0, 1\], \[2\]\], but .* \[\[0\], \[1, 2\]\]"
    ):
        second._check_streams_of_other_folds()


@pytest.mark.parametrize("name", ["nnUNetTrainerFA", "nnUNetTrainerCSADFA"])
def test_weights_from_before_folded_attention_was_residual_predict_as_they_did(make, name):
    """When nnUNetTrainerFA was Eq. 7's letter it had no β."""
    old, new = make(name).network.eval(), make(name).network.eval()
    block = old.attention.block
    block.beta, block.invert_channel, block.scale_logits = None, False, False
    new.load_state_dict(old.state_dict())
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        for a, b in zip(old(x), new(x), strict=True):
            assert torch.equal(a, b)
