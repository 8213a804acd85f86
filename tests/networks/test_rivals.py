"""Networks of other papers: their connections, written out, and what they count."""

import copy

import pytest
import torch

from nnunet_xmodal.networks.blocks.multi_res import MultiResBlock
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.dv_net import DVNet
from nnunet_xmodal.networks.fuse_unet import FuseUNet
from nnunet_xmodal.networks.hyper_dense_net import HyperDenseNet
from nnunet_xmodal.networks.mm_former import MMFormer
from nnunet_xmodal.networks.ms_reg import MSReg
from nnunet_xmodal.networks.multi_res_unet import MultiResUNet
from nnunet_xmodal.networks.octopus_net import OctopusNet
from nnunet_xmodal.networks.unet_plus_plus import UNetPlusPlus


def test_every_layer_reads_all_layers_of_all_paths_its_own_first(make_unet_arguments):
    network = HyperDenseNet(**make_unet_arguments([[0], [1, 2]], widths=(4, 8)))
    encoder, x = network.encoder, torch.randn(2, 3, 8, 8)
    a, b = encoder.levels[0][0][0](x[:, :1]), encoder.levels[0][0][1](x[:, 1:])
    skips = [encoder.reductions[0](torch.cat((a, b), 1))]
    a1 = encoder.levels[1][0][0](torch.cat((a, b), 1))
    b1 = encoder.levels[1][0][1](torch.cat((b, a), 1))
    a2 = encoder.levels[1][1][0](torch.cat((a1, b1), 1))
    b2 = encoder.levels[1][1][1](torch.cat((b1, a1), 1))
    skips.append(encoder.reductions[1](torch.cat((a1, b1, a2, b2), 1)))
    for skip, expected in zip(encoder(x), skips, strict=True):
        torch.testing.assert_close(skip, expected)
    for of_path, expected in zip(encoder.stream_features(x), ((a, a2), (b, b2))):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(of_path, expected))


def test_every_stage_of_octopus_reads_all_encoders_and_all_coarser_stages(make_unet_arguments):
    network = OctopusNet(**make_unet_arguments([[0], [1]], deep_supervision=True)).eval()
    decoder, x = network.decoder, torch.randn(2, 2, 16, 16)
    (a0, a1, a2), (b0, b1, b2) = network.encoder(x)
    d2 = decoder.fusions[0]([a2, b2])
    d1 = decoder.stages[0](decoder.fusions[1]([a1, b1, d2]))
    d0 = decoder.stages[1](decoder.fusions[2]([a0, b0, d1, d2]))
    for ours, theirs in zip(network(x), (decoder.seg_layers[1](d0), decoder.seg_layers[0](d1)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_nested_skips_are_those_of_the_equation(make_unet_arguments):
    network = UNetPlusPlus(**make_unet_arguments([[0]], deep_supervision=True, widths=(2, 4, 4, 8)))
    decoder, x = network.decoder, torch.randn(2, 1, 16, 16)
    skips = network.encoder(x)

    def node(i, j):
        if j == 0:
            return skips[i]
        row = [node(i, k) for k in range(j)]
        return decoder.nodes[f"{i}_{j}"](torch.cat((*row, decoder.ups[f"{i}_{j}"](node(i + 1, j - 1))), 1))

    logits, columns = network(x)
    for i, ours in enumerate(logits):
        torch.testing.assert_close(ours, decoder.seg_layers[2 - i](node(i, 3 - i)))
    for j, ours in enumerate(columns, start=1):
        torch.testing.assert_close(ours, decoder.of_columns["seg_layers"][j - 1](node(0, j)))
    assert len(columns) == 2 and len(network.eval()(x)) == 3


def test_streams_of_fuse_unet_are_judged_in_training_only_the_master_first(make_unet_arguments):
    network = FuseUNet(**make_unet_arguments([[0], [1], [2]], deep_supervision=True), master=1)
    x = torch.randn(2, 3, 16, 16)
    selected = network.encoder.selected(x)
    logits, judged = network(x)
    assert len(judged) == 3 and [level.shape for level in logits] == [level.shape for level in judged[0]]
    for judge, stream, ours in zip(network.judges, (1, 0, 2), judged):
        for head, level, of_level in zip(list(judge["seg_layers"])[::-1], selected[stream], ours):
            torch.testing.assert_close(of_level, head(level))
    assert isinstance(network.eval()(x), list)


def test_what_an_absent_stream_of_mmformer_holds_does_not_matter(make_unet_arguments):
    arguments = make_unet_arguments([[0], [1]])
    network = MMFormer(**arguments, patch_size=(16, 16), dropout=0.0)
    x, present = torch.randn(2, 2, 16, 16), torch.tensor([[True, False], [True, True]])
    changed = x.clone()
    changed[0, 1] = float("nan")
    for training in (True, False):
        network.train(training)
        outputs = [network(one, present) for one in (x, changed)]
        assert torch.equal(*([first[0] for first in outputs] if training else outputs))
    assert not torch.allclose(network(x, present)[0], network(x)[0])


def test_mmformer_segments_dropped_streams_alone_and_fuses_without_them(make_unet_arguments):
    options = {"patch_size": (16, 16), "dropout": 0.0, "stream_dropout": StreamDropout(0.9)}
    network = MMFormer(**make_unet_arguments([[0], [1]]), **options)
    x = torch.randn(2, 2, 16, 16)
    torch.manual_seed(3)
    present = network.stream_dropout(x, 2)
    assert not present.all()
    torch.manual_seed(3)
    logits, of_each = network(x)
    network.stream_dropout = None
    torch.testing.assert_close(logits, network(x, present)[0])
    for ours, levels in zip(of_each, network.encoder.stream_features(x), strict=True):
        torch.testing.assert_close(ours, network.of_each(levels))


def test_mmformer_drops_among_the_streams_of_a_sample_and_an_absent_one_says_what_all_say(make_unet_arguments):
    options = {"patch_size": (16, 16), "dropout": 0.0, "stream_dropout": StreamDropout(0.9)}
    network = MMFormer(**make_unet_arguments([[0], [1], [2]]), **options)
    x, given = torch.randn(2, 3, 16, 16), torch.tensor([[True, True, False], [False, False, True]])
    torch.manual_seed(3)
    present = network.stream_dropout(x, 3, given)
    assert not (present & ~given).any() and not torch.equal(present, given)
    torch.manual_seed(3)
    logits, of_each = network(x, given)
    network.stream_dropout = None
    torch.testing.assert_close(logits, network(x, present)[0])
    for stream, ours in enumerate(of_each):
        for sample in range(2):
            assert torch.equal(ours[sample], logits[sample]) is not given[sample, stream].item()
    of_each[2][0].sum().backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in network.parameters())


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_registration_networks_count_what_the_page_says():
    with torch.device("meta"):
        assert count(MSReg((32, 96, 96))) == 10_799_862
        assert count(DVNet((32, 96, 96))) == 5_129_094


@pytest.mark.parametrize("grid", [(8, 16, 16), (5, 13, 18)])
def test_they_read_any_grid(grid):
    for network in (MSReg(grid), DVNet(grid)):
        assert network(torch.rand(2, 2, *grid)).shape == (2, 6)


@pytest.mark.slow
@pytest.mark.parametrize("network_class", [MSReg, DVNet])
def test_registration_networks_compile_without_a_graph_break(network_class):
    torch._dynamo.reset()
    network = network_class((8, 16, 16))
    x = torch.rand(2, 2, 8, 16, 16)
    expected = copy.deepcopy(network)(x)  # a training step moves the statistics of batch norm
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
    compiled(x).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_multi_res_unet_counts_as_published(make_unet_arguments):
    """Keras counts the running mean and variance of the norms on sums, and has one head, with a norm."""
    arguments = make_unet_arguments([[0, 1, 2]], widths=(32, 64, 128, 256, 512), patch_size=(64, 64), num_classes=1)
    network = MultiResUNet(**arguments)
    assert count(network) == 7_252_066
    blocks = [module for module in network.modules() if isinstance(module, MultiResBlock)]
    on_sums = 2 * sum(block.output_channels for block in blocks) + sum(
        width * (4 - level) for level, width in enumerate((32, 64, 128, 256))
    )
    other_heads = count(network.decoder.seg_layers[:-1])
    assert count(network) + 2 * on_sums + 2 - other_heads == 7_262_750


def test_unet_plus_plus_counts_as_published(make_unet_arguments):
    """9.04 million, of two convolutions per node, one channel and one class; nnU-Net's have norms with weights."""
    widths = (32, 64, 128, 256, 512)
    arguments = make_unet_arguments([[0]], widths=widths, patch_size=(64, 64), num_classes=1)
    arguments |= {"n_conv_per_stage": [2] * 5, "n_conv_per_stage_decoder": [2] * 4}
    with torch.device("meta"):
        network = UNetPlusPlus(**arguments)
    norms = sum(count(module) for module in network.modules() if isinstance(module, torch.nn.InstanceNorm2d))
    heads = count(network.decoder.seg_layers) - count(network.decoder.seg_layers[-1])
    assert count(network) == 9_049_447
    assert count(network) - norms - heads == 9_041_700
