"""One command at a time for every output."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import filelock  # noqa: F401  before a test hides fcntl from it
import pytest
from holders import holders

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files import claim, temporary
from nnunet_xmodal.files.claim import claimed

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such locks on Windows")

HOLDER = """
import sys
from nnunet_xmodal.files.claim import claimed
with claimed(sys.argv[1], *sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def hold(tmp_path):
    """`(part)` → a process that holds `tmp_path / "out"`."""
    with holders(HOLDER, says="held") as start:
        yield lambda *part: start(str(tmp_path / "out"), *part)


def test_the_second_one_says_who_is_at_it_and_writes_nothing(hold, tmp_path):
    other, folder = hold(), tmp_path / "out"
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(XModalError) as error:
        with claimed(folder):
            raise AssertionError("both hold it")
    said = str(error.value)
    assert said.startswith(f"{folder} is being written by process {other.pid} on {claim.socket.gethostname()} since 2")
    assert f"(-c {folder})" in said and said.endswith(": wait until that has ended, or give another output.")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_killed_owner_holds_nothing(hold, tmp_path):
    other = hold()
    left = tmp_path / "out" / "below" / f".tmp_{temporary._HOST}.{other.pid}.ab"
    left.mkdir(parents=True)
    other.kill()
    other.wait()
    with claimed(tmp_path / "out"):
        assert not left.exists()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["below"]


def test_parts_share_a_folder_but_not_with_the_whole(hold, tmp_path):
    hold("part_0_of_2")
    with claimed(tmp_path / "out", "part_1_of_2"):
        pass
    for part in ("", "part_0_of_2"):
        with pytest.raises(XModalError, match="is being written by process"):
            with claimed(tmp_path / "out", part):
                raise AssertionError("both hold it")


def test_the_whole_excludes_parts(hold, tmp_path):
    hold()
    with pytest.raises(XModalError, match="is being written by process"):
        with claimed(tmp_path / "out", "part_1_of_2"):
            raise AssertionError("both hold it")


def test_an_output_that_stays_empty_was_never_there(tmp_path):
    with pytest.raises(XModalError, match="^faulty.$"):
        with claimed(tmp_path / "a" / "b"):
            raise XModalError("faulty.")
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "a" / "b"):
        (tmp_path / "a" / "b" / "result").touch()
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["result"]


def test_what_workers_leave_is_swept_after_an_error(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(KeyboardInterrupt):
        with claimed(tmp_path / "out"):
            (tmp_path / "out" / f".tmp_{temporary._HOST}.{ended.pid}.ab").mkdir()
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file(tmp_path):
    (tmp_path / "out").write_text("a thesis")
    for path in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(XModalError, match="is a file: give a folder"):
            with claimed(path):
                raise AssertionError
    assert (tmp_path / "out").read_text() == "a thesis"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
@pytest.mark.parametrize("call", ["open", "write", "mkdir"])
def test_a_disk_that_refuses(tmp_path, monkeypatch, number, call):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)
    if call == "mkdir":
        monkeypatch.setattr(Path, call, refuse)  # Python 3.10 has bound the other one
    with pytest.raises(XModalError, match=rf"out cannot be written \({os.strerror(number)}\): see to"):
        with claimed(tmp_path / "out"):
            raise AssertionError
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


def test_where_there_is_no_fcntl_as_on_windows(hold, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # importing it fails
    with claimed(tmp_path / "out"):
        (tmp_path / "out" / "result").touch()
        with pytest.raises(XModalError, match="is being written by another command: wait until"):
            with claimed(tmp_path / "out"):
                raise AssertionError("both hold it")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]
    hold("part_0_of_2")  # with fcntl: filelock's locks are the same ones
    with claimed(tmp_path / "out", "part_1_of_2"):
        pass
    with pytest.raises(XModalError, match="is being written by"):
        with claimed(tmp_path / "out"):
            raise AssertionError("both hold it")


def test_a_file_system_without_locks_is_no_hindrance(tmp_path, monkeypatch):
    import fcntl

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with claimed(tmp_path / "out"):
        (tmp_path / "out" / "result").touch()
    assert (tmp_path / "out" / "result").is_file()


def test_the_owner_is_told_in_json(tmp_path):
    with claimed(tmp_path / "out"):
        (file,) = (tmp_path / "out").iterdir()
        assert claim.is_claim(file) and json.loads(file.read_text())["process"] == os.getpid()


@pytest.mark.parametrize("call", ["unlink", "close"])
def test_a_claim_whose_removal_a_signal_interrupts_is_removed_when_the_process_ends(tmp_path, monkeypatch, call):
    with pytest.raises(SystemExit), claimed(tmp_path / "out"):
        (tmp_path / "out" / "result").touch()
        monkeypatch.setattr(os, call, lambda *_: sys.exit(143))  # as the handler of SIGTERM does
    monkeypatch.undo()
    assert len(list((tmp_path / "out").iterdir())) == 1 + (call == "unlink")
    claim._release_again()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["result"]


def test_a_claim_that_a_signal_interrupts_while_it_is_opened_is_removed_too(tmp_path, monkeypatch):
    opened = os.open

    def interrupted(*arguments, **more):
        opened(*arguments, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "open", interrupted)
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "out"):
        raise AssertionError
    monkeypatch.undo()
    assert len(list((tmp_path / "out").iterdir())) == 1
    claim._release_again()
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("at", ["opened", "locked"])
def test_a_claim_of_somebody_else_stays_when_the_process_ends(hold, tmp_path, at):
    file = tmp_path / "out" / claim._name("")
    file.parent.mkdir()
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)  # where a signal came before it could be locked
    claim._claims[file] = os.getpid(), None if at == "opened" else descriptor
    hold("")
    claim._release_again()
    assert file.exists()
    os.close(descriptor), claim._claims.pop(file)
