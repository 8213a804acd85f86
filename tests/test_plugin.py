"""The folder that nnUNet_extTrainer points to holds one module that only forwards."""

import importlib.util
from pathlib import Path

import pytest

from nnunet_xmodal import trainers
from nnunet_xmodal.discovery import PLUGIN_FOLDER


def test_the_shim_is_alone_and_forwards():
    (module,) = Path(PLUGIN_FOLDER).glob("*.py")
    spec = importlib.util.spec_from_file_location(module.stem, module)
    shim = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(shim)
    assert shim.nnUNetTrainerCSAD is trainers.nnUNetTrainerCSAD
    assert not hasattr(shim, "nnUNetTrainerCSAAD")
    with pytest.raises(AttributeError):
        shim.something_else  # noqa: B018
