"""A training whose process group gets SIGKILL goes on with --c and loses at most one epoch."""

import os
import re
from time import monotonic, sleep

import pytest

from nnunet_xmodal.discovery import PLUGIN_FOLDER

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"
TRAINER = "nnUNetTrainerHangs"
HANGS = f"""\
import os
import time
from pathlib import Path

import torch
from nnunet_xmodal.trainers import nnUNetTrainerCSAD_3epochs_1its


def half(checkpoint, filename):
    Path(filename).write_bytes(b"half of a checkpoint")
    time.sleep(600)


class {TRAINER}(nnUNetTrainerCSAD_3epochs_1its):
    def train_step(self, batch):
        if self.current_epoch == 1 and os.environ.get("HANGS") == "in a step":
            time.sleep(600)
        return super().train_step(batch)

    def save_checkpoint(self, filename):
        if self.current_epoch == 1 and os.environ.get("HANGS") == "while it saves":
            torch.save = half
        super().save_checkpoint(filename)
"""


def epochs_begun(log: str) -> list[int]:
    return [int(epoch) for epoch in re.findall(r"Epoch (\d+) *$", log, flags=re.MULTILINE)]


def test_killed_between_checkpoints_and_while_one_is_written(workspace, tmp_path):
    (tmp_path / "hangs.py").write_text(HANGS)
    path = os.pathsep.join([PLUGIN_FOLDER, str(tmp_path)])
    words = ("nnUNetv2_train", DATASET, "2d", 0, "-tr", TRAINER, "-device", "cpu")
    fold = workspace.model(DATASET, TRAINER, "2d") / "fold_0"

    def begun() -> list[int]:
        return epochs_begun(workspace.log(DATASET, TRAINER, "2d"))

    def half_written() -> bool:
        try:
            return any(file.read_bytes() == b"half of a checkpoint" for file in fold.glob(".tmp_*/*.pth"))
        except FileNotFoundError:  # what was listed has its final name by now
            return False

    def train_until(condition, hangs: str, *arguments) -> None:
        """Starts a training and kills its process group as soon as the condition holds."""
        training = workspace.start(*words, *arguments, nnUNet_extTrainer=path, HANGS=hangs)
        deadline = monotonic() + 600
        while not condition():
            assert training.poll() is None, training.output()
            assert monotonic() < deadline, "the condition did not come true"
            sleep(0.02)
        training.kill()
        training.wait()

    train_until(lambda: begun() == [0, 1], "in a step")
    train_until(half_written, "while it saves", "--c")
    assert begun() == [0, 1, 1]
    workspace.run(*words, "--c", nnUNet_extTrainer=path)
    assert begun() == [0, 1, 1, 1, 2]
    assert (fold / "validation" / "summary.json").is_file()
