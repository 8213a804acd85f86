"""What a network adds to a map that it reads."""

import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.on_inversion import OnInversion
from nnunet_xmodal.networks.qsm_unet import QSMUNet


def test_the_network_sees_deviations_and_adds_in_the_maps_unit():
    convolution = nn.Conv3d(3, 1, 1, bias=False)
    x = torch.randn(2, 3, 4, 4, 4)
    made = OnInversion(convolution, [0.5, 20.0, 1.0], base=1)(x)
    scaled = x / torch.tensor([0.5, 20.0, 1.0]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(made, x[:, 1:2] + 20 * convolution(scaled))


def test_a_network_of_zeros_returns_the_map():
    network = OnInversion(nn.Conv3d(3, 1, 1), [0.1, 5.0, 1.0], base=1)
    for parameter in network.parameters():
        nn.init.zeros_(parameter)
    x = torch.randn(1, 3, 4, 4, 4)
    torch.testing.assert_close(network(x), x[:, 1:2], rtol=0, atol=0)
    assert [name for name, _ in network.state_dict().items()] == ["network.weight", "network.bias"]


def test_half_precision_loses_no_digits_of_the_map():
    network = OnInversion(nn.Identity(), [1e-6], base=0)
    made = network(torch.full((1, 1, 2, 2, 2), 1e-6))
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, torch.full_like(made, 2e-6))


@pytest.mark.slow
def test_it_compiles_without_a_graph_break():
    network = OnInversion(QSMUNet(10, 1, widths=(4, 8)), [0.01] + [0.02] * 3 + [1.0] * 6, base=1).eval()
    x = 0.01 * torch.randn(2, 10, 8, 8, 8)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), network(x), rtol=1e-4, atol=1e-5)
