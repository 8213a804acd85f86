"""Wrappers that tell a network which of its streams there are."""

import torch

from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.of_present_streams import OfMarkedStreams, OfPresentStreams, OfSamplesStreams
from nnunet_xmodal.networks.zero_filled_unet import ZeroFilledUNet

PRESENT = torch.tensor([[True, False], [True, True], [False, True]])


def test_absence_by_nan_is_absence_as_told(make_unet_arguments):
    """Patches that reach beyond the image are padded with 0, and channels of a cascade have no NaN."""
    network = MultiStreamUNet(**make_unet_arguments([[0, 2], [1]], extra_channels=1)).eval()
    x = torch.randn(3, 4, 16, 16)
    marked = x.clone()
    marked[0, 1, 4:] = float("nan")
    marked[2, [0, 2]] = float("nan")
    expected = network(x, PRESENT)
    assert torch.equal(OfMarkedStreams(network, [[0, 2], [1]], 3)(marked), expected)
    assert torch.equal(OfSamplesStreams(network, PRESENT)(x), expected)
    only_first = OfPresentStreams(network, [0, 2], 3, [True, False])
    assert torch.equal(only_first(x[:1, [0, 2, 3]]), network(x[:1], PRESENT[:1]))


def test_one_encoder_reads_0_where_a_channel_is_absent(make_unet_arguments):
    arguments = make_unet_arguments([[0, 1]], extra_channels=1)
    plain = MultiStreamUNet(**arguments).eval()
    arguments.pop("streams")
    filled = ZeroFilledUNet(n_channels=2, **arguments).eval()
    filled.load_state_dict(plain.state_dict())
    x = torch.randn(3, 3, 16, 16)
    zeros = x.clone()
    zeros[:, :2][~PRESENT] = 0
    x[:, :2][~PRESENT] = float("nan")
    assert torch.equal(filled(x, PRESENT), plain(zeros))
    assert torch.equal(filled(zeros), plain(zeros))
