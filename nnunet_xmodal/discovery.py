"""How nnU-Net finds our trainers: its own variable `nnUNet_extTrainer`, pointed at `plugin/`.

Nothing heavy is imported here: `nnUNetXModal_env` runs at the start of every shell.
"""

import os
from pathlib import Path

VARIABLE = "nnUNet_extTrainer"
PLUGIN_FOLDER = str(Path(__file__).with_name("plugin"))


def extended_value(existing: str | None = None) -> str:
    """Return the value of `nnUNet_extTrainer` with our folder in it; folders that are already there stay first."""
    folders = [folder for folder in (existing or "").split(os.pathsep) if folder.strip()]
    if PLUGIN_FOLDER not in folders:
        folders.append(PLUGIN_FOLDER)
    return os.pathsep.join(folders)


def register() -> None:
    """Let nnU-Net find our trainers in this process and in all processes that it starts."""
    os.environ[VARIABLE] = extended_value(os.environ.get(VARIABLE))
