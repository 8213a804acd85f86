"""nnU-Net's variables, which nnU-Net takes literally."""

import os

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.environment import check_numbers_of_processes, require_variables, with_a_loader


@pytest.mark.parametrize(
    "value, sentence",
    [
        ("", "is not set"),
        ("   ", "is not set"),
        ("~/raw", 'whose ~ no shell has replaced: write export nnUNet_raw="\\$HOME/raw"'),
        ("~", "whose ~"),
        ("/data/raw ", 'blanks .* write export nnUNet_raw="/data/raw"'),
        (" /data/raw", "blanks"),
        ("/data/raw\r", "line ends"),
        ('"/data/raw"', 'quotes .* write export nnUNet_raw="/data/raw"'),
        ("'/data/raw'", "quotes"),
        ("$HOME/raw", "a variable has not been replaced"),
        ("${HOME}/raw", "a variable has not been replaced"),
        ("/data/$NOT_SET_ANYWHERE/raw", "a variable has not been replaced"),
    ],
)
def test_what_nnunet_would_take_literally_is_named(monkeypatch, value, sentence):
    monkeypatch.setenv("nnUNet_raw", value)
    with pytest.raises(XModalError, match=f"nnUNet_raw .*{sentence}"):
        require_variables("nnUNet_raw")


def test_a_file_is_no_folder(monkeypatch, tmp_path):
    file = tmp_path / "raw"
    file.write_text("")
    monkeypatch.setenv("nnUNet_raw", str(file))
    with pytest.raises(XModalError, match="is a file"):
        require_variables("nnUNet_raw")


@pytest.mark.parametrize("name", ["my data", "a~b", "exists", "a$b", "ünï"])
def test_odd_folders_are_folders(monkeypatch, tmp_path, name):
    (tmp_path / name).mkdir()
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / name))
    require_variables("nnUNet_raw")


def test_a_folder_may_be_made_later(monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "later on"))
    require_variables("nnUNet_raw")


@pytest.mark.parametrize("name", ["nnUNet_def_n_proc", "nnUNet_n_proc_DA"])
def test_numbers_of_processes_that_are_none(name, monkeypatch):
    monkeypatch.setenv(name, "8")
    check_numbers_of_processes()
    monkeypatch.setenv(name, "")
    check_numbers_of_processes()
    assert name not in os.environ
    for value in ("many", " ", "-1", "2.5"):
        monkeypatch.setenv(name, value)
        with pytest.raises(XModalError, match=f"variable {name} is '{value}': write a number of processes, or unset"):
            check_numbers_of_processes()


@pytest.mark.parametrize("value, within", [("0", "1"), ("3", "3"), (None, None)])
def test_nnunet_plans_with_a_loader_at_least(monkeypatch, value, within):
    if value is None:
        monkeypatch.delenv("nnUNet_n_proc_DA", raising=False)
    else:
        monkeypatch.setenv("nnUNet_n_proc_DA", value)
    with pytest.raises(ZeroDivisionError), with_a_loader():
        assert os.environ.get("nnUNet_n_proc_DA") == within
        _ = 1 / 0
    assert os.environ.get("nnUNet_n_proc_DA") == value
