import copy
import pickle
import socket
from itertools import product
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from fast_ones import one_fast_in
from torchvision.models import ResNet18_Weights
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks import resnet_backbone
from nnunet_xmodal.networks.resnet_backbone import ResNetBackbone

BUILDERS = {"resnet18": torchvision.models.resnet18, "resnet101": torchvision.models.resnet101}


@pytest.fixture(scope="module")
def resnet18():
    """torchvision's, with statistics of batch norm that are not those at the start; to be read only."""
    torch.manual_seed(0)
    network = BUILDERS["resnet18"]()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.fixture(scope="module")
def state_file(resnet18, tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(resnet18.state_dict(), file)
    return file


@pytest.fixture
def served(monkeypatch):
    """`(weights, state or error)`: what a download of these weights gives."""
    monkeypatch.setattr(resnet_backbone, "_said", set())
    answers, timeouts = {}, []

    def get_state_dict(self, *args, **kwargs):
        timeouts.append(socket.getdefaulttimeout())
        answer = answers[self]
        if isinstance(answer, Exception):
            raise answer
        return answer

    for kind in (ResNet18_Weights, DeepLabV3_ResNet101_Weights):
        monkeypatch.setattr(kind, "get_state_dict", get_state_dict)
    answers["timeouts"] = timeouts
    return answers


@pytest.mark.parametrize("channels", one_fast_in(2, [1, 2, 3]))
def test_parameters_and_features_of_the_paper(channels):
    with torch.device("meta"):
        network = ResNetBackbone("resnet101", channels)
        assert sum(p.numel() for p in network.parameters()) == 43_024_448
        assert network(torch.empty(2, channels, 256, 256)).shape == (2, 256, 32, 32)
    assert network.feature_size([256, 256]) == [32, 32]


@pytest.mark.parametrize("name", one_fast_in(2, BUILDERS))
def test_without_the_strides_it_computes_what_it_computed_with_them(name):
    """Dilation fills in positions between those of torchvision's network at stride 32 and moves none."""
    strided = BUILDERS[name]().double().eval()
    network = ResNetBackbone(name, channels=3).double().eval()
    network.load_state_dict(strided.state_dict(), strict=False)
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        features = network.layer2(network.layer1(network.maxpool(network.relu(network.bn1(network.conv1(x))))))
        dilated = network.layer4(network.layer3(features))
        reference = strided.layer4(strided.layer3(features))
    assert dilated.shape[2:] == (8, 8) and reference.shape[2:] == (2, 2)
    torch.testing.assert_close(dilated[..., ::4, ::4], reference, atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("channels, order", [(1, [0, 0, 0]), (2, [0, 1, 0])])
def test_fewer_than_three_channels_are_repeated(channels, order):
    network = ResNetBackbone("resnet18", channels).eval()
    three = ResNetBackbone("resnet18", 3).eval()
    three.load_state_dict(network.state_dict())
    x = torch.randn(1, channels, 32, 32)
    torch.testing.assert_close(network(x), three(x[:, order]))


def test_weights_for_three_channels_see_five_that_show_one_image_as_before(resnet18, tmp_path):
    """Every channel the same image: every one of three weights stands for 1/3, of five repeated ones for 1/5 of it."""
    state, file = resnet18.state_dict(), tmp_path / "grey.pth"
    state["conv1.weight"] = state["conv1.weight"].mean(1, keepdim=True).expand(-1, 3, -1, -1)
    torch.save(state, file)
    five = ResNetBackbone("resnet18", 5, weights=file).eval()
    three = ResNetBackbone("resnet18", 3, weights=file).eval()
    assert five.conv1.weight.shape == (64, 5, 7, 7)
    five.project.load_state_dict(three.project.state_dict())
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(five(image.expand(-1, 5, -1, -1)), three(image.expand(-1, 3, -1, -1)))


def test_the_first_weights_for_five_channels_are_those_of_three_in_turn(state_file):
    weight = torch.load(state_file)["conv1.weight"]
    expected = torch.stack([weight[:, c] for c in (0, 1, 2, 0, 1)], 1) * 0.6
    assert torch.equal(ResNetBackbone("resnet18", 5, weights=state_file).conv1.weight, expected)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_a_file_is_taken_without_its_head(resnet18, tmp_path, prefix):
    state = {f"{prefix}{key}": value for key, value in resnet18.state_dict().items() if not key.startswith("fc.")}
    heads = {"classifier.4.weight": torch.ones(21), "aux_classifier.0.weight": torch.ones(3)}
    torch.save(state | heads, tmp_path / "weights.pth")
    network = ResNetBackbone("resnet18", weights=tmp_path / "weights.pth")
    for key, value in network.state_dict().items():
        assert key == "project.weight" or torch.equal(value, state[prefix + key]), key


def test_its_own_file_comes_back_whole(tmp_path):
    network = ResNetBackbone("resnet18", channels=4, features=8)
    torch.save(network.state_dict(), tmp_path / "own.pth")
    other = ResNetBackbone("resnet18", channels=4, features=8, weights=str(tmp_path / "own.pth"))
    assert all(torch.equal(value, other.state_dict()[key]) for key, value in network.state_dict().items())


def test_a_file_that_does_not_fit_is_named_with_the_key(state_file, tmp_path):
    state = torch.load(state_file)
    lacking = {key: value for key, value in state.items() if key != "layer2.0.conv1.weight"}
    for wrong, message in [
        (lacking, "lacks layer2.0.conv1.weight"),
        (state | {"layer1.7.conv1.weight": torch.ones(1)}, "holds layer1.7.conv1.weight, which resnet18 has not"),
        (state | {"bn1.weight": torch.ones(3)}, r"has bn1.weight of the shape \[3\] instead of \[64\]"),
        ([1, 2], "are no state dict"),
    ]:
        torch.save(wrong, tmp_path / "wrong.pth")
        with pytest.raises(XModalError, match=f"wrong.pth .*{message}"):
            ResNetBackbone("resnet18", weights=tmp_path / "wrong.pth")
    (tmp_path / "broken.pth").write_bytes(b"no weights at all")
    for file in ("broken.pth", "missing.pth"):
        with pytest.raises(XModalError, match=f"{file} cannot be read .*give"):
            ResNetBackbone("resnet18", weights=tmp_path / file)


def test_wrong_names_are_sentences_with_the_way_out():
    with pytest.raises(XModalError, match="resnet50 is no backbone: take one of resnet18, resnet101"):
        ResNetBackbone("resnet50")
    with pytest.raises(XModalError, match='resnet18 has no weights "coco": take "imagenet"'):
        ResNetBackbone("resnet18", weights="coco")


def test_imagenet_weights_are_downloaded_with_a_limit_on_silence(served, resnet18):
    served[ResNet18_Weights.IMAGENET1K_V1] = resnet18.state_dict()
    network = ResNetBackbone("resnet18", weights="imagenet")
    assert torch.equal(network.layer4[1].conv2.weight, resnet18.layer4[1].conv2.weight)
    assert served["timeouts"] == [20.0] and socket.getdefaulttimeout() is None


@pytest.mark.slow
def test_coco_weights_are_those_of_deeplabs_backbone(served):
    deeplab = torchvision.models.segmentation.deeplabv3_resnet101(weights=None, weights_backbone=None, aux_loss=True)
    served[DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1] = deeplab.state_dict()
    network = ResNetBackbone("resnet101", channels=3, weights="coco").double().eval()
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        theirs = deeplab.double().eval().backbone(x)["out"]
        torch.testing.assert_close(network(x), network.project(theirs))


@pytest.mark.parametrize(
    "error", one_fast_in(3, [URLError("no route to host"), RuntimeError("invalid hash"), TimeoutError("slow")])
)
def test_a_failed_download_is_said_once_and_weights_stay_random(served, capsys, error):
    served[ResNet18_Weights.IMAGENET1K_V1] = error
    first, second = (ResNetBackbone("resnet18", weights="imagenet") for _ in range(2))
    (line,) = capsys.readouterr().out.splitlines()
    reason = error.args[0]
    for part in ("resnet18 starts from random weights", reason, ResNet18_Weights.IMAGENET1K_V1.url, "TORCH_HOME"):
        assert part in line
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name, size", one_fast_in(3, product(BUILDERS, [(64, 64), (40, 72)])))
def test_feature_map_size_is_what_convolutions_put_out(count_conv_outputs, name, size):
    with torch.device("meta"):
        network, x = ResNetBackbone(name, features=16), torch.empty(1, 1, *size)
    assert network.compute_conv_feature_map_size(list(size)) == count_conv_outputs(network, x)
    assert list(network(x).shape) == [1, 16, *network.feature_size(list(size))]


@pytest.mark.slow
def test_it_pickles_copies_and_compiles():
    network = ResNetBackbone("resnet18", features=8).eval()
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = network(x)
        for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
            assert torch.equal(other(x), expected)
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("content", [b"<html>login</html>", b"", b"PK\x03\x04broken"])
def test_a_broken_file_where_weights_are_looked_for_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    (folder / Path(ResNet18_Weights.DEFAULT.url).name).write_bytes(content)
    with pytest.raises(XModalError, match="resnet18-.*pth are broken .*: delete the file, and get it again from https"):
        ResNetBackbone("resnet18", 1, weights="imagenet")
