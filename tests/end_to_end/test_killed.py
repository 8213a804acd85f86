"""A training whose process group gets SIGKILL goes on with --c and loses at most one epoch."""

import os
import re
import signal
import subprocess
from pathlib import Path
from time import monotonic, sleep

import pytest

from nnunet_xmodal.discovery import PLUGIN_FOLDER

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"


def train_until(workspace, trainer: str, condition, **environment: str) -> None:
    """Starts a training in a process group of its own and kills the group as soon as the condition holds."""
    command = Path(os.sys.executable).parent / "nnUNetv2_train"
    process = subprocess.Popen(
        [str(command), DATASET, "2d", "0", "-tr", trainer, "-device", "cpu"],
        env={**workspace.environment, **environment},
        cwd=workspace.root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = monotonic() + 600
    while not condition():
        assert process.poll() is None, "the training ended before it could be killed"
        assert monotonic() < deadline, "the condition did not come true"
        sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def epochs_begun(log: str) -> list[int]:
    return [int(epoch) for epoch in re.findall(r"Epoch (\d+) *$", log, flags=re.MULTILINE)]


def test_killed_between_checkpoints(workspace):
    trainer = "nnUNetTrainerCSAD_4epochs_3its"
    train_until(workspace, trainer, lambda: 2 in epochs_begun(workspace.log(DATASET, trainer, "2d")))
    workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", trainer, "-device", "cpu", "--c")
    begun = epochs_begun(workspace.log(DATASET, trainer, "2d"))
    assert begun == [0, 1, 2, 2, 3]
    assert (workspace.model(DATASET, trainer, "2d") / "fold_0" / "validation" / "summary.json").is_file()


def test_killed_while_a_checkpoint_is_written(workspace):
    trainer = "nnUNetTrainerHalfWritten"
    folder = workspace.root / "half_written"
    folder.mkdir()
    (folder / "half_written.py").write_text(
        "import os, time\n"
        "import torch\n"
        "from nnunet_xmodal.trainers import nnUNetTrainerCSAD_4epochs_3its\n\n\n"
        "def hangs(checkpoint, filename):\n"
        "    with open(filename, 'wb') as file:\n"
        "        file.write(b'half of a checkpoint')\n"
        "    time.sleep(600)\n\n\n"
        "class nnUNetTrainerHalfWritten(nnUNetTrainerCSAD_4epochs_3its):\n"
        "    def save_checkpoint(self, filename):\n"
        "        if 'HANG' in os.environ and self.current_epoch == 2:\n"
        "            torch.save = hangs\n"
        "        super().save_checkpoint(filename)\n"
    )
    path = os.pathsep.join([PLUGIN_FOLDER, str(folder)])
    fold = workspace.model(DATASET, trainer, "2d") / "fold_0"

    def half_written() -> bool:
        return any(file.read_bytes() == b"half of a checkpoint" for file in fold.glob("*") if file.suffix == ".tmp")

    train_until(workspace, trainer, half_written, nnUNet_extTrainer=path, HANG="1")
    workspace.run("nnUNetv2_train", DATASET, "2d", 0, "-tr", trainer, "-device", "cpu", "--c", nnUNet_extTrainer=path)
    assert epochs_begun(workspace.log(DATASET, trainer, "2d")) == [0, 1, 2, 2, 3]
