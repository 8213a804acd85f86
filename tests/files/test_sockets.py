"""What multiprocessing leaves in the system's temporary folder carries its owner's name."""

import multiprocessing
import tempfile
from multiprocessing.util import get_temp_dir

from nnunet_xmodal.files import temporary
from nnunet_xmodal.files.sockets import sockets_that_are_swept


def test_a_folder_for_the_command_that_goes_with_it(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {})
    with sockets_that_are_swept():
        folder = get_temp_dir()
        assert f"/.tmp_{temporary._HOST}." in folder.replace("\\", "/")
        assert temporary.os.path.isdir(folder)
    assert not temporary.os.path.exists(folder)
    assert "tempdir" not in multiprocessing.current_process()._config


def test_a_path_that_is_too_long_for_a_socket_is_not_taken(monkeypatch, tmp_path):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {})
    long = tmp_path / ("long" * 20)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with sockets_that_are_swept():
        assert "tempdir" not in multiprocessing.current_process()._config
    assert not list(long.iterdir())


def test_a_folder_that_cannot_be_written_is_no_hindrance(monkeypatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_config", {})

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with sockets_that_are_swept():
        assert "tempdir" not in multiprocessing.current_process()._config
