"""Temporary folders say whose they are, and those of dead processes are swept."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nnunet_xmodal.files import temporary
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.temporary import is_alive, sweep, temporary_folder


@pytest.fixture
def dead() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_carries_host_and_process_and_goes_afterwards(tmp_path):
    with temporary_folder(tmp_path) as folder:
        assert folder.name.startswith(f".tmp_{temporary._HOST}.{temporary.os.getpid()}.")
        (folder / "half").write_text("half")
        sweep(tmp_path)
        assert folder.is_dir()
    assert not list(tmp_path.iterdir())


def test_what_a_signal_interrupts_at_the_end_is_left_to_the_next_sweep(tmp_path, monkeypatch):
    def interrupted(*_, **__):
        monkeypatch.undo()
        raise SystemExit(143)

    with pytest.raises(SystemExit), claimed(tmp_path), temporary_folder(tmp_path) as folder:
        (folder / "half").write_text("half")
        monkeypatch.setattr(temporary.shutil, "rmtree", interrupted)
    assert not list(tmp_path.iterdir())


def test_at_the_end_of_a_process_nothing_is_left_where_it_had_folders(tmp_path):
    script = (
        "import sys, tempfile\nfrom nnunet_xmodal.files import temporary\n"
        "with temporary.temporary_folder(sys.argv[1]): pass\n"
        "made = lambda **words: [real(**words), sys.exit(143)]\n"  # a signal between a folder's making and its note
        "real, tempfile.mkdtemp = tempfile.mkdtemp, made\n"
        "with temporary.temporary_folder(sys.argv[1]): pass\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == 143
    assert not list(tmp_path.iterdir())


def test_folders_of_dead_processes_are_swept_and_no_others(tmp_path, dead):
    host, alive = temporary._HOST, temporary.os.getppid()
    left = [f".tmp_{host}.{dead}.a_b8", f".tmp_{host}.{temporary.os.getpid()}.of_an_earlier_one"]
    kept = [f".tmp_{host}.{alive}.ab", f".tmp_else-{host}.{dead}.ab", ".tmp_abcdef", "images"]
    for name in (*left, *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half.nii.gz").write_bytes(b"half")
    with temporary_folder(tmp_path):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_below_a_folder_on_request_only(tmp_path, dead):
    left = tmp_path / "fold_0" / "validation" / f".tmp_{temporary._HOST}.{dead}.ab"
    left.mkdir(parents=True)
    sweep(tmp_path)
    assert left.is_dir()
    sweep(tmp_path, below=True)
    assert not left.exists() and left.parent.is_dir()


def test_links_are_not_followed(tmp_path, dead):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "kept").mkdir(parents=True)
    place = tmp_path / "place"
    place.mkdir()
    (place / f".tmp_{temporary._HOST}.{dead}.ab").symlink_to(elsewhere, target_is_directory=True)
    sweep(place, below=True)
    assert (elsewhere / "kept").is_dir()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_removes_nothing(tmp_path):
    made = temporary_folder(tmp_path)
    folder = made.__enter__()
    child = os.fork()
    if child == 0:
        made.__exit__(None, None, None)
        os._exit(0)
    os.waitpid(child, 0)
    assert folder.is_dir()
    made.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="there is no /proc")
def test_a_process_whose_status_nobody_has_fetched_is_dead():
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        process.stdout.read()  # until it ends
        deadline = time.monotonic() + 10
        while is_alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, 0)  # its number is taken
        assert not is_alive(process.pid)
    assert is_alive(os.getpid())


def test_windows_is_not_asked_about_a_process_and_nothing_is_swept_there(tmp_path, dead, on_windows, monkeypatch):
    def end(*_):
        raise AssertionError("on Windows os.kill ends what it is asked about")

    left = [f".tmp_{temporary._HOST}.{number}.ab" for number in (dead, os.getpid())]
    for name in left:
        (tmp_path / name).mkdir()
    with temporary_folder(tmp_path) as ours:
        pass
    on_windows(temporary)
    monkeypatch.setattr(os, "kill", end)
    assert is_alive(dead) and is_alive(os.getppid())
    for name in left:
        (tmp_path / name).mkdir(exist_ok=True)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == left[:1]  # its own number cannot be another process's
    assert not ours.exists()
