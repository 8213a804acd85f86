"""Layers and networks are found as nnU-Net finds them; what leads elsewhere is refused, and not imported."""

import pydoc
import sys

import pytest
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import VARIABLE
from nnunet_xmodal.files.trusted_names import find_trainer, locate

GOOD = [
    "torch.nn.LeakyReLU",
    "torch.nn.modules.conv.Conv3d",
    "torch.nn.modules.instancenorm.InstanceNorm2d",
    "torch.nn.modules.dropout.Dropout3d",
    "torch.nn.functional.leaky_relu",
    "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
    "dynamic_network_architectures.building_blocks.residual.BasicBlockD",
    "nnunetv2.utilities.helpers.softmax_helper_dim1",
    "nnunet_xmodal.networks.prototype_network.PrototypeNetwork",
    "nnunet_xmodal.networks.qsm_unet.QSMUNet",
]


@pytest.mark.parametrize("name", GOOD)
def test_layers_networks_and_pure_functions(name):
    assert locate(name, "conv_op") is pydoc.locate(name)


BAD = [
    "os.system",
    "subprocess.check_output",
    "builtins.eval",
    "eval",
    "torch.load",
    "torch.hub.load",
    "torch.nn",
    "torch.nn.modules",
    # through what a module of the package has imported
    "torch.nn.modules.module.warnings.sys.modules",
    "torch.nn.modules.module.torch.hub.load",
    "torch.nn.modules.module.torch.nn.Conv2d",
    "torch.nn.parallel.distributed.os.system",
    "nnunetv2.run.run_training.os.system",
    "dynamic_network_architectures.architectures.unet.torch.load",
    "batchgeneratorsv2.transforms.base.basic_transform.abc.sys.exit",
    "nnunet_xmodal.discovery.os.system",
    # functions that live elsewhere, by the name under which the package has them
    "nnunetv2.run.run_training.join",
    "nnunetv2.inference.predict_from_raw_data.load_json",
    "torch.nn.modules.module.namedtuple",
    # of the package, but no layer
    "nnunetv2.model_sharing.model_download.download_and_install_from_url",
    "nnunetv2.model_sharing.model_import.install_model_from_zip_file",
    "nnunetv2.run.load_pretrained_weights.load_pretrained_weights",
    "nnunetv2.run.run_training.run_training",
    "nnunetv2.inference.predict_from_raw_data.nnUNetPredictor",
    "nnunet_xmodal.files.atomic.write_atomically",
    "nnunet_xmodal.predict.predict",
    # attributes of what is harmless
    "torch.nn.LeakyReLU.__init__",
    "torch.nn.LeakyReLU.__class__",
    "torch.nn.LeakyReLU.__init__.__globals__",
    "torch.nn.functional.leaky_relu.__globals__",
    # names that look alike
    "torch.nnx.Conv2d",
    "torch.nn_evil.Conv2d",
    "nnunetv2evil.Conv2d",
    "torch.nn..LeakyReLU",
    ".torch.nn.LeakyReLU",
    "torch.nn.LeakyReLU\n",
    "torch.nn.Leaky ReLU",
    "../torch.nn.LeakyReLU",
    "",
]


@pytest.mark.parametrize("name", [*BAD, None, 3, ["torch.nn.LeakyReLU"], {"a": 1}])
def test_everything_else_is_refused(name):
    with pytest.raises(XModalError, match="^nonlin in plans.json is .*--trust"):
        locate(name, "nonlin in plans.json")


@pytest.mark.parametrize("name", ["torch.nn.NoSuchLayer", "dynamic_network_architectures.absent.Net"])
def test_a_name_that_is_not_there(name):
    with pytest.raises(XModalError, match="which does not exist"):
        locate(name, "nonlin")


def test_refused_modules_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "stranger.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(XModalError, match="--trust"):
        locate("stranger.Net", "network_class_name")
    assert "stranger" not in sys.modules


def test_who_trusts_uses_any_package(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text("from torch import nn\n\nclass Net(nn.Module):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(VARIABLE, "1")
    assert issubclass(locate("own_networks.Net", "network_class_name"), nn.Module)
    with pytest.raises(XModalError, match="does not exist"):
        locate("own_networks.Absent", "network_class_name")


@pytest.mark.parametrize("name", ["os", "torch", "join", "../x", "a.b", "", None, 5, "nnUNetTrainerNobodyHas"])
def test_a_trainer_is_a_trainer(nnunet_folders, name):
    with pytest.raises(XModalError, match="^here was written by the trainer .*install the package"):
        find_trainer(name, "here")


@pytest.mark.parametrize("name", ["nnUNetTrainer", "nnUNetTrainerCSAD", "nnUNetTrainer_5epochs"])
def test_trainers_are_found(nnunet_folders, name, capsys):
    assert find_trainer(name, "here").__name__ == name
    assert capsys.readouterr().out == ""
