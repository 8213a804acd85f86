"""ResNets at output stride 8, as DeepLabV3 has them, with the features reduced: what few-shot networks look through."""

import pickle
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import torch
import torchvision
from torch import nn
from torchvision.models.segmentation import DeepLabV3_ResNet101_Weights

from nnunet_xmodal.errors import XModalError

_BUILDERS = {"resnet18": torchvision.models.resnet18, "resnet101": torchvision.models.resnet101}
_DOWNLOADS = {
    ("resnet18", "imagenet"): torchvision.models.ResNet18_Weights.IMAGENET1K_V1,
    ("resnet101", "imagenet"): torchvision.models.ResNet101_Weights.IMAGENET1K_V1,
    ("resnet101", "coco"): DeepLabV3_ResNet101_Weights.COCO_WITH_VOC_LABELS_V1,
}
_HEADS = ("fc.", "classifier.", "aux_classifier.")
_SECONDS = 20.0  # that a server may stay silent
_said: set[str] = set()


class ResNetBackbone(nn.Module):
    """torchvision's ResNet without strides in layers 3 and 4, dilated there instead, and a 1×1 convolution behind it.

    CRTPNet and ALPNet take "resnet101" with the weights that DeepLabV3 has from COCO: 43,024,448 parameters at three
    channels or fewer and 256 features. At positions 0, 4, 8, … the features are those of the ResNet with its strides.

    One or two input channels are repeated until there are three (one: three times, as in the paper). More have a first
    convolution with as many inputs; weights for three are repeated and scaled by 3/channels.

    Args:
        name: "resnet101" or "resnet18".
        channels: of the input.
        features: of the output.
        weights: "coco" ("resnet101" alone), "imagenet", the path of a state dict with torchvision's keys, also behind
            "backbone.", or None for random ones. The 1×1 convolution is random unless the file has it as "project.".

    The two names are downloaded by torchvision into TORCH_HOME. Where that fails weights stay random, and one line per
    process says so.

    Shape: `(B, channels, H, W)` → `(B, features, ⌈H/8⌉, ⌈W/8⌉)`.

    Raises:
        XModalError: for another name, weights that this network has not, and a file that does not fit.
    """

    stride = 8

    def __init__(
        self, name: str = "resnet101", channels: int = 1, features: int = 256, weights: str | Path | None = None
    ) -> None:
        super().__init__()
        if name not in _BUILDERS:
            raise XModalError(f"{name} is no backbone: take one of {', '.join(_BUILDERS)}.")
        self.name, self.channels, self.features = name, channels, features

        resnet = _BUILDERS[name]()
        self.conv1 = resnet.conv1
        if channels > 3:
            self.conv1 = nn.Conv2d(channels, self.conv1.out_channels, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1, self.relu, self.maxpool = resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2 = resnet.layer1, resnet.layer2
        self.layer3 = _dilated(resnet.layer3, before=1, after=2)
        self.layer4 = _dilated(resnet.layer4, before=2, after=4)
        self.project = nn.Conv2d(resnet.fc.in_features, features, kernel_size=1, bias=False)
        if weights is not None:
            self._load(weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features; see the class."""
        if x.shape[1] < 3:
            x = x.repeat(1, 3, 1, 1)[:, :3]
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # B 64 H/4 W/4
        return self.project(self.layer4(self.layer3(self.layer2(self.layer1(x)))))

    def feature_size(self, input_size: list[int]) -> list[int]:
        """Return the numbers of positions along H and W."""
        return [-(-side // self.stride) for side in input_size]

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one image."""
        size = _strided(input_size, 2)
        total = self.conv1.out_channels * torch.Size(size).numel()
        size = _strided(size, 2)  # max pooling
        for block in (*self.layer1, *self.layer2, *self.layer3, *self.layer4):
            for conv in (child for child in block.children() if isinstance(child, nn.Conv2d)):
                size = _strided(size, conv.stride[0])
                total += conv.out_channels * torch.Size(size).numel()
            if block.downsample is not None:
                total += block.downsample[0].out_channels * torch.Size(size).numel()
        return total + self.project.out_channels * torch.Size(size).numel()

    def _load(self, weights: str | Path) -> None:
        if weights not in ("coco", "imagenet"):
            return self._load_state(_state_in(Path(weights)), str(weights))
        if (self.name, weights) not in _DOWNLOADS:
            raise XModalError(f'{self.name} has no weights "{weights}": take "imagenet", a file, or resnet101.')
        state = _downloaded(self.name, weights)
        if state is not None:
            self._load_state(state, f'the weights "{weights}" of {self.name}')

    def _load_state(self, state: Mapping[str, torch.Tensor], source: str) -> None:
        state = {key.removeprefix("backbone."): value for key, value in state.items()}
        state = {key: value for key, value in state.items() if not key.startswith(_HEADS)}
        first = state.get("conv1.weight")
        if self.channels > 3 and first is not None and first.shape[1] == 3:
            order = [index % 3 for index in range(self.channels)]
            state["conv1.weight"] = first[:, order] * (3 / self.channels)

        own = self.state_dict()
        optional = {key for key in own if key.startswith("project.") or key.endswith(".num_batches_tracked")}
        for key in sorted(own.keys() | state.keys()):
            problem: str | None
            if key not in own:
                problem = f"holds {key}, which {self.name} has not"
            elif key not in state:
                problem = None if key in optional else f"lacks {key}"
            elif state[key].shape != own[key].shape:
                problem = f"has {key} of the shape {list(state[key].shape)} instead of {list(own[key].shape)}"
            else:
                problem = None
            if problem:
                raise XModalError(f"{source} {problem}: take weights of a {self.name} of torchvision.")
        self.load_state_dict(own | state)


def _dilated(layer: nn.Sequential, before: int, after: int) -> nn.Sequential:
    """The layer without its stride: what came before its stride is dilated by `before`, what follows by `after`."""
    dilation = before
    for block in layer:
        for conv in (child for child in block.children() if isinstance(child, nn.Conv2d)):
            strided, conv.stride = conv.stride != (1, 1), (1, 1)
            if conv.kernel_size == (3, 3):
                conv.dilation = conv.padding = (dilation, dilation)
            if strided:
                dilation = after
        if block.downsample is not None:
            block.downsample[0].stride = (1, 1)
        block.stride = 1
    return layer


def _strided(size: list[int], stride: int) -> list[int]:
    return [-(-side // stride) for side in size]


def _state_in(file: Path) -> Mapping[str, torch.Tensor]:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # of pickle, zip, torch or the file system
        raise XModalError(
            f"the weights {file} cannot be read ({_in_one_line(error)}): give a state dict's file."
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise XModalError(
            f"the weights {file} are no state dict: save one with torch.save(network.state_dict(), file)."
        )
    return state


def _downloaded(name: str, weights: str) -> Mapping[str, torch.Tensor] | None:
    source = _DOWNLOADS[name, weights]
    try:
        with _impatient():
            return source.get_state_dict(progress=False, check_hash=True)
    # no network, an interrupted download, a broken file, which pickle says in words of its own
    except (OSError, EOFError, RuntimeError, HTTPException, pickle.UnpicklingError) as error:
        file = Path(torch.hub.get_dir()) / "checkpoints" / Path(source.url).name
        if file.is_file():
            raise XModalError(
                f"the weights {file} are broken ({_in_one_line(error)}): delete the file, and get it again from "
                f"{source.url}."
            ) from error
        if source.url not in _said:
            _said.add(source.url)
            print(
                f'{name} starts from random weights: its weights "{weights}" could not be downloaded '
                f"({_in_one_line(error)}); put {source.url} into {Path(torch.hub.get_dir()) / 'checkpoints'} "
                "(TORCH_HOME names another folder), or give a file.",
                flush=True,
            )
        return None


@contextmanager
def _impatient() -> Iterator[None]:
    """Without a limit a firewall that swallows packets holds a download for minutes."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
