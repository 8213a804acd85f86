"""Of two commands with the same output the second one says who is at it, and changes nothing."""

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.phantoms.two_channel import write_phantom_dataset

pytestmark = pytest.mark.skipif(os.name != "posix", reason="there are no such locks on Windows")

HOLDER = """
import sys
from nnunet_xmodal.files.claim import claimed
with claimed(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def prepare(folders: Path) -> tuple[Path, list[str]]:
    scan = folders / "scans" / "patient" / "t2.nii.gz"
    scan.parent.mkdir(parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((4, 4, 4), np.float32)), str(scan))
    words = ["-i", str(folders / "scans"), "-o", "Dataset001_A", "--channels", "T2=*t2*"]
    return folders / "nnUNet_raw" / "Dataset001_A", words


def plan_and_preprocess(folders: Path) -> tuple[Path, list[str]]:
    write_phantom_dataset(folders / "nnUNet_raw" / "Dataset001_A", n_train=1, n_test=0, seed=0)
    return folders / "nnUNet_preprocessed" / "Dataset001_A", ["-d", "1", "-npfp", "1", "--no_pbar"]


def predict(folders: Path) -> tuple[Path, list[str]]:
    return folders / "out", ["-i", "in", "-o", str(folders / "out"), "-d", "1", "-c", "2d"]


def compare(folders: Path) -> tuple[Path, list[str]]:
    return folders / "out", ["-o", str(folders / "out"), "--folders", str(folders), "--gt", str(folders)]


def demo(folders: Path) -> tuple[Path, list[str]]:
    return folders / "out", ["--folder", str(folders / "out"), "--device", "cpu"]


def paste(folders: Path) -> tuple[Path, list[str]]:
    record = folders / "nnUNet_raw" / "Dataset001_A" / "preparation" / "records" / "a.json"
    record.parent.mkdir(parents=True)
    grid = {"size": [4, 4, 4], "spacing": [1, 1, 1], "origin": [0, 0, 0], "direction": [1, 0, 0, 0, 1, 0, 0, 0, 1]}
    record.write_text(json.dumps({"case": "a", "done": True, "grid": grid}))
    (folders / "in").mkdir()
    (folders / "in" / "a.nii.gz").touch()
    return folders / "out", ["-i", str(folders / "in"), "-o", str(folders / "out"), "-d", "1"]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("command", [prepare, plan_and_preprocess, predict, compare, demo, paste])
def test_the_second_one_changes_nothing(nnunet_folders, monkeypatch, capsys, command):
    folder, words = command(nnunet_folders)
    monkeypatch.chdir(nnunet_folders)
    holder = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "held\n"
        before = tree(nnunet_folders)
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            import_module(f"nnunet_xmodal.commands.{command.__name__}").main(words)
        said = capsys.readouterr().err.splitlines()[-1]
        assert end.value.code == 2
        assert said.startswith(f"error: {folder} is being written by process {first.pid} on ")
        assert tree(nnunet_folders) == before
