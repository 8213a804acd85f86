"""What our networks that segment have in common, whether streams meet at every level, before the heads, or never."""

from functools import partial

import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.branches_unet import BranchesUNet
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.late_fusion_unet import LateFusionUNet
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet

ONE_OUTPUT = {
    "streams": MultiStreamUNet,
    "SCFF": partial(MultiStreamUNet, fusion=SpatialCorrelatedFeatureFusion),
    "late fusion": partial(LateFusionUNet, fusion=SpatialCorrelatedFeatureFusion),
}
BRANCHES = {
    "CMFF": lambda **arguments: CMFFUNet(**arguments, guidance=MaskGuidedAttention()),
    "A": partial(BranchesUNet, branches="A"),
}
UNETS = ONE_OUTPUT | BRANCHES
ENCODER_PAIRS = [(2, 16, 16), (2, 8, 8)]  # of attention maps, and the same of the decoders'


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize(
    "name, scheme, shapes",
    [
        ("streams", None, None),
        ("streams", "ILC", 2 * ENCODER_PAIRS),
        ("late fusion", None, None),
        ("late fusion", "PLC", [*ENCODER_PAIRS, (2, 4, 4)]),
    ],
)
def test_pairs_come_with_the_logits_in_training_only(make_unet_arguments, name, scheme, shapes, deep_supervision):
    paths = scheme and DistillationPaths(scheme, AttentionMapGenerationBlock())
    arguments = make_unet_arguments([[0], [1]], deep_supervision=deep_supervision)
    network = UNETS[name](**arguments, distillation=paths)
    x = torch.randn(2, 2, 16, 16)
    sizes = [(2, 3, 16, 16), (2, 3, 8, 8)] if deep_supervision else [(2, 3, 16, 16)]

    def sizes_of(logits):
        assert isinstance(logits, list) == deep_supervision
        return [level.shape for level in (logits if deep_supervision else [logits])]

    assert sizes_of(network.eval()(x)) == sizes
    output = network.train()(x)
    if scheme is None:
        assert sizes_of(output) == sizes
    else:
        logits, pairs = output
        assert sizes_of(logits) == sizes
        assert [a.shape for a, b in pairs] == shapes
        assert all(a.shape == b.shape for a, b in pairs)


@pytest.mark.parametrize("name", ["streams", "late fusion"])
def test_a_list_of_logits_is_switched_off_through_the_decoder_as_nnunet_does(make_unet_arguments, name):
    network = UNETS[name](**make_unet_arguments([[0], [1]], deep_supervision=True)).eval()
    x = torch.randn(2, 2, 16, 16)
    finest = network(x)[0]
    network.decoder.deep_supervision = False
    assert torch.equal(network(x), finest)


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("name", ["SCFF", "late fusion"])
def test_every_parameter_gets_a_gradient_or_asks_for_none(make_unet_arguments, name, deep_supervision):
    network = UNETS[name](**make_unet_arguments([[0], [1]], deep_supervision=deep_supervision))
    logits = network(torch.randn(2, 2, 16, 16))
    sum(level.square().mean() for level in (logits if deep_supervision else [logits])).backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ([] if deep_supervision else ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"])


@pytest.mark.parametrize(
    "channels, side, message",
    [
        (1, 16, "the network was trained on 2 input channels but got 1: is a modality file"),
        (3, 16, "the network was trained on 2 input channels but got 3: is a modality file"),
        (2, 18, r"by \[4, 4\] and got \[18, 16\]: take a patch size divisible by these numbers"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("name", UNETS)
def test_a_wrong_input_is_named(make_unet_arguments, name, training, channels, side, message):
    network = UNETS[name](**make_unet_arguments([[0], [1]])).train(training)
    with pytest.raises(XModalError, match=message):
        network(torch.randn(1, channels, side, 16))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", UNETS)
def test_nan_and_infinity_are_named(make_unet_arguments, name, value):
    network = UNETS[name](**make_unet_arguments([[0], [1]])).eval()
    x = torch.randn(2, 2, 16, 16)
    x[0, 1, 3, 4] = value
    with pytest.raises(XModalError, match="an input image holds NaN or infinite voxels"):
        network(x)
