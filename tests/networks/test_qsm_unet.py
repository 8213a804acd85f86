from functools import partial

import pytest
import torch
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.at_bottleneck import AtBottleneck
from nnunet_xmodal.networks.blocks.dual_attention import DualAttention
from nnunet_xmodal.networks.blocks.folded_attention import FoldedAttention
from nnunet_xmodal.networks.blocks.recurrent_slice_attention import RecurrentSliceAttention
from nnunet_xmodal.networks.qsm_unet import QSMUNet

TINY = (4, 8, 8)


def at_bottom(block):
    return lambda conv_op, widths, norm_op: AtBottleneck(block, conv_op, widths)


FOLDED = at_bottom(partial(FoldedAttention, residual_beta=True))


@pytest.mark.parametrize(
    "attention, expected",
    [
        (None, 22_581_217),
        (FOLDED, 23_369_189),
        (at_bottom(RecurrentSliceAttention), 23_369_188),
        (at_bottom(partial(DualAttention, norm_op=nn.BatchNorm3d)), 51_487_843),
    ],
    ids=["backbone", "FA", "RSA", "DA"],
)
def test_the_papers_parameters(attention, expected):
    with torch.device("meta"):
        network = QSMUNet(attention=attention)
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize("attention", [None, FOLDED])
def test_shapes_and_a_gradient_for_every_parameter(attention):
    network = QSMUNet(2, 3, attention=attention, widths=TINY)
    output = network(torch.randn(2, 2, 8, 12, 4))
    assert output.shape == (2, 3, 8, 12, 4) and network.total_stride == [4, 4, 4]
    output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_the_output_takes_any_sign():
    output = QSMUNet(widths=TINY)(torch.randn(2, 1, 8, 8, 8))
    assert output.min() < 0 < output.max()


@pytest.mark.parametrize("attention", [None, FOLDED])
def test_the_size_of_its_feature_maps(attention, count_conv_outputs):
    network = QSMUNet(attention=attention, widths=TINY)
    assert network.compute_conv_feature_map_size([8, 16, 8]) == count_conv_outputs(network, torch.randn(1, 1, 8, 16, 8))


def test_initialisation_reaches_all_convolutions():
    network = QSMUNet(attention=FOLDED, widths=TINY)
    network.apply(network.initialize)
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]
    assert all((m.bias == 0).all() and m.weight.std() > 0 for m in convolutions)


def test_wrong_inputs_are_sentences():
    network = QSMUNet(widths=TINY)
    with pytest.raises(XModalError, match="trained on 1 input channels but got 2"):
        network(torch.zeros(1, 2, 8, 8, 8))
    with pytest.raises(XModalError, match=r"got \[8, 6, 8\]"):
        network(torch.zeros(1, 1, 8, 6, 8))
