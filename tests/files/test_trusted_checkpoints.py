"""Numbers are read, nothing is run, and files that are refused stay as they are."""

import collections
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from nnunetv2.run import run_training

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE, is_trusted, trusting
from nnunet_xmodal.files.trusted_checkpoints import check_checkpoint, foreign_globals, only_weights, read_checkpoint


def written(file, content, **options):
    torch.save(content, file, **options)
    return file


def test_what_nnunet_writes_is_read(tmp_path):
    numbers = [np.float64(0.5), np.float32(0.25), np.int64(3), np.bool_(True), np.float16(2), np.uint8(7)]
    content = {
        "network_weights": collections.OrderedDict(a=torch.arange(3.0)),
        "logging": {"mean_fg_dice": numbers, "epoch_start_timestamps": [1.5]},
        "init_args": {"plans": {"a": [1, None, True, "x"]}, "device": torch.device("cuda", 0), "fold": 0},
        "inference_allowed_mirroring_axes": (0, 1),
        "grad_scaler_state": None,
    }
    read = read_checkpoint(written(tmp_path / "c.pth", content))
    assert torch.equal(read["network_weights"]["a"], torch.arange(3.0))
    assert read["logging"]["mean_fg_dice"] == numbers
    assert [type(number) for number in read["logging"]["mean_fg_dice"]] == [type(number) for number in numbers]
    assert read["init_args"] == content["init_args"]


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numbers_of_numpy_1_and_2_are_read(tmp_path, core):
    """The same pickle under both names of numpy's maker of scalars."""
    file = written(tmp_path / "c.pth", {"_best_ema": np.float64(0.75)})
    other = tmp_path / "other.pth"
    with zipfile.ZipFile(file) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith("data.pkl"):
                own = np.float64(0).__reduce__()[0].__module__.encode()
                assert b"c" + own + b"\n" in data
                data = data.replace(b"c" + own + b"\n", f"cnumpy.{core}.multiarray\n".encode())
            target.writestr(name, data)
    assert read_checkpoint(other) == {"_best_ema": 0.75}


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("mmap", [False, True])
def test_a_command_in_a_checkpoint_is_named_and_not_run(tmp_path, command, options, mmap):
    file = written(tmp_path / "c.pth", {"network_weights": {}, "x": command}, **options)
    before = file.read_bytes()
    with pytest.raises(XModalError) as error:
        read_checkpoint(file, mmap=mmap)
    assert str(error.value).startswith(f"{file} holds {os.system.__module__}.system, which no checkpoint")
    assert "--trust" in str(error.value) and VARIABLE in str(error.value)
    assert not command.file.exists() and file.read_bytes() == before


class Eval:
    def __reduce__(self):
        return eval, ("1 + 1",)


class Partial:
    def __reduce__(self):
        import functools

        return functools.partial, (print,)


class OfNumpy:
    """A function of numpy that unpickles files."""

    def __reduce__(self):
        return np.load, ("x.npy", None, True)


@pytest.mark.parametrize("thing", [Eval(), Partial(), OfNumpy(), np.zeros(2, dtype=object)])
def test_nothing_else_is_called(tmp_path, thing):
    with pytest.raises(XModalError, match="holds .*, which no checkpoint of nnU-Net needs"):
        read_checkpoint(written(tmp_path / "c.pth", {"x": thing}))


def test_a_bare_pickle_is_not_run(tmp_path, command):
    file = tmp_path / "checkpoint_final.pth"
    file.write_bytes(pickle.dumps({"x": command}))
    with pytest.raises(XModalError):
        read_checkpoint(file)
    assert not command.file.exists()


def test_every_loader_within_the_switch_reads_weights_only(tmp_path, command, monkeypatch):
    """Also where the user has told torch otherwise; afterwards everything is as before."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    before = dict(os.environ)
    file = written(tmp_path / "c.pth", {"x": command})
    with only_weights(), only_weights(), pytest.raises(pickle.UnpicklingError):
        torch.load(file, weights_only=False)
    assert not command.file.exists() and dict(os.environ) == before
    torch.load(file, weights_only=False)
    assert command.file.exists()


def test_who_trusts_runs_what_is_there(tmp_path, command):
    file = written(tmp_path / "c.pth", {"x": command})
    with trusting(True):
        assert is_trusted()
        read_checkpoint(file)
    assert command.file.exists() and not is_trusted()


def test_trust_of_the_environment_stays(monkeypatch):
    for value, trusted in (("1", True), ("true", True), ("0", False), ("", False)):
        monkeypatch.setenv(VARIABLE, value)
        with trusting(False):
            assert is_trusted() is trusted
        assert os.environ[VARIABLE] == value


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_cut_file_is_a_sentence(tmp_path, share):
    file = written(tmp_path / "c.pth", {"network_weights": torch.zeros(1000)})
    content = file.read_bytes()[: int(share * file.stat().st_size)]
    file.write_bytes(content)
    with pytest.raises(XModalError, match="c.pth is no readable checkpoint .*copy it anew"):
        check_checkpoint(file)
    assert file.read_bytes() == content


def test_a_file_that_is_not_there_and_one_of_something_else(tmp_path):
    for file in (tmp_path / "absent.pth", tmp_path, written(tmp_path / "list.pth", [1])):
        with pytest.raises(XModalError, match="is no readable checkpoint"):
            check_checkpoint(file)


def test_a_lack_of_memory_is_no_reason_to_delete(tmp_path, monkeypatch):
    file = written(tmp_path / "c.pth", {})

    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(XModalError, match="MemoryError") as error:
        read_checkpoint(file)
    assert file.is_file() and "delete" not in str(error.value)


def test_foreign_globals_are_all_named(tmp_path, command):
    file = written(tmp_path / "c.pth", {"a": command, "b": Eval(), "c": np.float64(1)})
    assert {name.rpartition(".")[2] for name in foreign_globals(file)} == {"system", "eval"}


@pytest.fixture
def make(make_trainer, make_plans):
    return lambda: make_trainer("nnUNetTrainerMultiStream", make_plans(streams=[[0], [1]]))


@pytest.mark.parametrize("name", ["nnUNetTrainerMultiStream", "nnUNetTrainerCMFT"])
def test_trainers_go_on_from_no_strangers_checkpoint(make_trainer, make_plans, tmp_path, command, name):
    trainer, file = make_trainer(name, make_plans(streams=[[0], [1]])), tmp_path / "checkpoint_latest.pth"
    trainer.save_checkpoint(str(file))
    trainer.load_checkpoint(str(file))
    torch.save({**torch.load(file, weights_only=False), "x": command}, file)
    with pytest.raises(XModalError, match="system, which no checkpoint"):
        trainer.load_checkpoint(str(file))
    assert not command.file.exists() and file.is_file()


def test_pretrained_weights_of_a_stranger_are_refused_by_stock_training(make, tmp_path, command):
    """nnUNetv2_train with one of our trainers; good weights arrive."""
    source, trainer, file = make(), make(), tmp_path / "weights.pth"
    source.save_checkpoint(str(file))
    run_training.maybe_load_checkpoint(trainer, False, False, str(file))
    ours, theirs = (next(t.network.parameters()) for t in (trainer, source))
    assert torch.equal(ours, theirs)
    torch.save({**torch.load(file, weights_only=False), "x": command}, file)
    with pytest.raises(XModalError, match="system, which no checkpoint"):
        run_training.maybe_load_checkpoint(trainer, False, False, str(file))
    assert not command.file.exists()


def test_pretrained_weights_of_a_gpu_are_read_without_one(make, tmp_path, monkeypatch):
    """The optimiser's numbers lie on the GPU, in a checkpoint of nnU-Net as in one of ours."""
    source, trainer, file = make(), make(), tmp_path / "weights.pth"
    with monkeypatch.context() as on_gpu:
        on_gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        source.save_checkpoint(str(file))
    with pytest.raises(RuntimeError, match="deserialize object on a CUDA device"):
        torch.load(file, weights_only=False)
    run_training.maybe_load_checkpoint(trainer, False, False, str(file))
    ours, theirs = (next(t.network.parameters()) for t in (trainer, source))
    assert torch.equal(ours, theirs)
