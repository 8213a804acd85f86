"""What the machine refuses is one sentence; faults of ours keep their traceback."""

import errno
import os

import blosc2
import numpy as np
import pytest
import torch

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.system_failures import sentence_of


def raised(error: BaseException, capsys) -> str:
    @one_sentence_errors
    def command() -> None:
        raise error

    with pytest.raises(SystemExit) as end:
        command()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.endswith((".\n", "?\n")) and len(said.splitlines()) == 1
    return said


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EISDIR])
def test_of_the_disk(number, capsys):
    said = raised(OSError(number, os.strerror(number), "/data/case.nii.gz"), capsys)
    assert "/data/case.nii.gz" in said and os.strerror(number) in said
    assert ("make room" in said) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert os.strerror(number) in raised(OSError(number, os.strerror(number)), capsys)


def test_of_the_memory(capsys):
    with pytest.raises(MemoryError) as error:
        np.zeros((1 << 45,))
    assert "Unable to allocate" in raised(error.value, capsys)
    assert "fewer processes" in raised(MemoryError(), capsys)
    of_torch = RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory: you tried")
    assert "fewer processes" in raised(of_torch, capsys)
    assert "--max_memory GB, which is one process (-npp 0 -nps 0)" in raised(of_torch, capsys)
    of_gpu = raised(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), capsys)
    assert "--not_on_device" in of_gpu and "--max_memory" not in of_gpu


@pytest.mark.parametrize(
    "words",
    [
        "Background workers died. Look for the error message further up! If there is none",
        "Some background worker is 6 feet under. Yuck. \nOK jokes aside.",
        "Some background workers are no longer alive",
        "Segmentation export worker died. It was likely killed by your OS",
    ],
)
def test_of_workers(words, capsys):
    said = raised(RuntimeError(words), capsys)
    assert "a worker process ended too early" in said and "--max_memory GB" in said and "-npp 0 -nps 0" in said


def test_of_shared_memory(capsys):
    of_torch = "unable to resize file </torch_12438_3975466372_0> to the right size: No space left on device (28)"
    assert "the shared memory is full (unable to resize" in raised(RuntimeError(of_torch), capsys)


def test_of_libraries_that_write(capsys):
    said = raised(RuntimeError("Error while creating the NDArray"), capsys)
    assert "a file cannot be written whole" in said


def test_of_a_preprocessed_file_that_was_cut_off(tmp_path, capsys):
    file = tmp_path / "case.b2nd"
    blosc2.asarray(np.arange(1000.0), urlpath=str(file))
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RuntimeError) as error:
        blosc2.open(str(file), mode="r")
    said = raised(error.value, capsys)
    assert str(file) in said and said.endswith(": preprocess again.\n")


def test_nnunet_still_says_so():
    import inspect

    from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
    from nnunetv2.inference import data_iterators, predict_from_raw_data
    from nnunetv2.preprocessing.preprocessors import default_preprocessor
    from nnunetv2.utilities import file_path_utilities

    said = "".join(
        map(
            inspect.getsource,
            (fingerprint_extractor, data_iterators, predict_from_raw_data, default_preprocessor, file_path_utilities),
        )
    )
    raised = [part.split("'")[1] for part in said.split("raise RuntimeError(")[1:] if "worker" in part.split(")")[0]]
    assert len(raised) >= 4
    assert all(sentence_of(RuntimeError(words)) for words in raised)


def test_lists_within_lists(tmp_path, capsys):
    file = tmp_path / "dataset.json"
    file.write_text("[" * 100_000)

    @one_sentence_errors
    def command() -> None:
        read_json(file)

    with pytest.raises(SystemExit):
        command()
    assert capsys.readouterr().err == f"error: {file} nests lists or objects too deeply to be read: replace it.\n"


@pytest.mark.parametrize("content", [b"", b'{"labels": ', b"\xff\xfe", b"{'labels': 1}"])
def test_json_that_is_none(tmp_path, content):
    file = tmp_path / "dataset.json"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="dataset.json is not valid JSON"):
        read_json(file)


@pytest.mark.parametrize(
    "error", [TypeError("ours"), FileNotFoundError(errno.ENOENT, "gone", "x"), RuntimeError("ours")]
)
def test_faults_of_ours_keep_their_traceback(error):
    @one_sentence_errors
    def command() -> None:
        raise error

    with pytest.raises(type(error)):
        command()
