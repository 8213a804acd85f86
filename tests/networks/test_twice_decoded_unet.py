import pytest
import torch

from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.twice_decoded_unet import TwiceDecodedUNet


@pytest.mark.parametrize("streams", [[[0], [1]], [[0, 2], [1], [3]]])
@pytest.mark.parametrize("blocks", [{}, {"fusion": SpatialCorrelatedFeatureFusion}, {"reduce_some": True}])
def test_a_sample_is_decoded_with_all_its_streams_and_with_those_that_were_drawn(make_unet_arguments, streams, blocks):
    arguments = make_unet_arguments(streams, deep_supervision=True)
    plain = MultiStreamUNet(**arguments, **blocks)
    twice = TwiceDecodedUNet(**arguments, **blocks, stream_dropout=SomeStreams())
    twice.load_state_dict(plain.state_dict())
    x = torch.randn(3, plain.input_channels, 16, 16)
    torch.manual_seed(1)
    drawn = twice.stream_dropout(x, len(streams))
    torch.manual_seed(1)
    levels = twice(x)
    for both, complete, some in zip(levels, plain(x), plain(x, drawn), strict=True):
        torch.testing.assert_close(both, torch.cat((complete, some)), atol=1e-5, rtol=1e-5)

    has = torch.ones(3, len(streams), dtype=torch.bool)
    has[1, 0] = has[2, 1:] = False
    torch.manual_seed(2)
    drawn_of_these = twice.stream_dropout(x, len(streams), has)
    torch.manual_seed(2)
    lacking = x.clone()
    for stream, channels in enumerate(streams):
        for channel in channels:
            lacking[~has[:, stream], channel] = float("nan")
    levels = twice(lacking, has)
    for both, all_there, some in zip(levels, plain(x, has), plain(x, drawn_of_these), strict=True):
        torch.testing.assert_close(both, torch.cat((all_there, some)), atol=1e-5, rtol=1e-5)
    for network in (plain.eval(), twice.eval()):
        network.decoder.deep_supervision = False
    assert torch.equal(twice(x), plain(x)) and torch.equal(twice(x, drawn), plain(x, drawn))
