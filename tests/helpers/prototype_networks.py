"""Few-shot networks of a few channels, their supports and episodes."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.cross_reference import CrossReference
from nnunet_xmodal.networks.blocks.cross_reference_transformer import CrossReferenceTransformer
from nnunet_xmodal.networks.blocks.cycle_resemblance import CycleResemblance
from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes, LocalPrototypes
from nnunet_xmodal.networks.blocks.recurrent_mask import RecurrentPrototypes
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork

SIZE = (64, 64)


METHODS = {
    "PANet": (ClassPrototypes, None),
    "ALPNet": (LocalPrototypes, None),
    "CR": (LocalPrototypes, partial(CrossReference, reduction=2)),
    "CRTPNet": (LocalPrototypes, partial(CrossReferenceTransformer, reduction=2)),
    "RP-Net": (partial(RecurrentPrototypes, 8), None),
    "CRAPNet": (LocalPrototypes, CycleResemblance),
}


class TinyBackbone(nn.Module):
    """A stand-in at stride 8 with batch norm, which counts the images it sees."""

    def __init__(self, channels=1, features=8):
        super().__init__()
        self.conv = nn.Conv2d(channels, features, 8, stride=8)
        self.norm = nn.BatchNorm2d(features)
        self.images = 0

    def forward(self, x):
        if not torch.compiler.is_compiling():
            self.images += len(x)
        return self.norm(self.conv(x))

    def compute_conv_feature_map_size(self, input_size):
        return 8 * input_size[0] * input_size[1] // 64

    def feature_size(self, input_size):
        return [side // 8 for side in input_size]


class IdealBackbone(nn.Module):
    """Features that are the label: the share of each of four values in 8×8 pixels."""

    def forward(self, x):
        return F.avg_pool2d(torch.stack([x[:, 0].round() == value for value in range(4)], 1).float(), 8)


def network_of(method="CRTPNet", backbone=None, labels=2, **options):
    prototypes, cross_reference = METHODS[method]
    backbone = backbone or TinyBackbone(options.get("input_channels", 1))
    options.setdefault("size", SIZE)
    return PrototypeNetwork(backbone, prototypes(), labels, cross_reference and cross_reference(8), **options)


def block_mask(top, left, height=24, width=32, size=SIZE):
    mask = torch.zeros(size, dtype=torch.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def filled(network, seed=0, places=None):
    generator = torch.Generator().manual_seed(seed)
    shape = network.support.exists.shape
    for place in places or torch.cartesian_prod(*map(torch.arange, shape)).tolist():
        image = torch.randn(network.input_channels, *network.size, generator=generator)
        network.set_support(*place, image, block_mask(8 * place[0], 8 * place[1], size=network.size))
    return network


def query_of(network, batch=2):
    return torch.randn(batch, network.input_channels, *network.size)


def episode_of(network, batch=2, shots=2):
    support = torch.randn(batch, shots, network.input_channels, *network.size)
    mask = torch.stack([torch.stack([block_mask(8 * b, 8 * s) for s in range(shots)]) for b in range(batch)])
    return query_of(network, batch), support, mask
