"""A fold is trained by one process at a time, with the locks of POSIX and with those for Windows."""

import errno
import os
import sys

import filelock  # noqa: F401  before a test hides fcntl from it
import pytest
from holders import holders

from nnunet_xmodal.crossval.fold_lock import locked
from nnunet_xmodal.files.claim import is_claim

HIDDEN = "import filelock; sys.modules['fcntl'] = None\n"  # filelock's locks are the same ones, with and without
HOLDER = """
from nnunet_xmodal.crossval.fold_lock import locked
with open(sys.argv[1], "a") as log, locked(log) as alone:
    print(alone, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(
    params=[pytest.param(True, marks=pytest.mark.skipif(os.name == "nt", reason="Windows has none")), False]
)
def with_fcntl(request, monkeypatch) -> bool:
    if not request.param:
        monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    return request.param


@pytest.fixture
def log(tmp_path):
    with open(tmp_path / "crossval_log.txt", "a") as file:
        yield file


@pytest.fixture
def hold(with_fcntl, log):
    """`()` → a process that has the lock."""
    script = "import sys\n" + HIDDEN * (not with_fcntl) + HOLDER
    with holders(script, says="True") as start:
        yield lambda: start(log.name)


def test_it_is_ours_alone_and_free_again_afterwards(with_fcntl, log, tmp_path):
    for _ in range(2):
        with locked(log) as alone, open(log.name, "a") as second, locked(second) as both:
            assert alone and not both
            log.write("a line\n")
            log.flush()
    assert (tmp_path / "crossval_log.txt").read_text() == "a line\n" * 2  # which Windows lets nobody do who locks it
    assert [path.name for path in tmp_path.iterdir()] == ["crossval_log.txt"]


def test_another_process_has_it_until_it_is_killed(hold, log):
    other = hold()
    with locked(log) as alone:
        assert not alone
    other.kill()
    other.wait()
    with locked(log) as alone:
        assert alone


def test_its_file_counts_as_no_result(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with locked(log):
        (file,) = (path for path in tmp_path.iterdir() if path.name != "crossval_log.txt")
        assert is_claim(file)


def test_a_file_system_without_locks_is_no_hindrance(with_fcntl, log, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK)) if with_fcntl else NotImplementedError

    if with_fcntl:
        import fcntl

        monkeypatch.setattr(fcntl, "flock", refuse)
    else:
        monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with locked(log) as alone:
        assert alone
