"""Physical units outside, numbers around one inside; and every network of susceptibility mapping compiled."""

import pytest
import torch
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.networks.qsm_unet import QSMUNet
from nnunet_xmodal.networks.rescaled import Rescaled

TINY = (4, 8)
NAMES = [name for name in trainers.TRAINERS if name.startswith("nnUNetTrainerQSM") and not name.endswith("Direct")]


def network_of(name):
    return Rescaled(QSMUNet(widths=TINY, attention=getattr(trainers, name).attention()), [0.01], 0.03)


def test_units_of_input_and_output_are_those_outside():
    convolution = nn.Conv3d(2, 1, 1, bias=False)
    x = torch.randn(2, 2, 4, 4, 4)
    rescaled = Rescaled(convolution, [0.5, 20.0], 3.0)
    expected = 3 * convolution(x / torch.tensor([0.5, 20.0]).view(1, 2, 1, 1, 1))
    torch.testing.assert_close(rescaled(x), expected)
    assert [name for name, _ in rescaled.state_dict().items()] == ["network.weight"]
    identity = Rescaled(nn.Identity(), [0.008], 0.008)
    torch.testing.assert_close(identity(x[:, :1]), x[:, :1], rtol=1e-6, atol=0)


def test_zero_stays_zero():
    assert Rescaled(nn.Conv3d(1, 1, 3, bias=False), [0.1], 5.0)(torch.zeros(1, 1, 4, 4, 4)).abs().max() == 0


def test_half_precision_loses_no_digits_behind_the_network():
    output = Rescaled(nn.Identity(), [1.0], 1e-6)(torch.full((1, 1, 2, 2, 2), 1.5, dtype=torch.float16))
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, torch.full_like(output, 1.5e-6))  # below what float16 tells from 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_graph_break(name):
    network = network_of(name)
    x = 0.01 * torch.randn(2, 1, 8, 8, 8)
    for training in (True, False):
        torch._dynamo.reset()
        network.train(training)
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        # before the running means of batch norm move on
        output, expected = compiled(x), network(x)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)
