from functools import partial
from itertools import product

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from fast_ones import one_fast_in
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.branches_unet import BranchesUNet, TappedDecoder, logits_of_mean_probability
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.stream_grouping import StreamGrouping
from nnunet_xmodal.networks.unet_plan import encoder_of

NETWORKS = {
    "CMFF": lambda **arguments: CMFFUNet(**arguments, guidance=MaskGuidedAttention()),
    "F*M": lambda **arguments: CMFFUNet(**arguments, guidance=MaskGuidedAttention(identity=False)),
    "per class": lambda **arguments: CMFFUNet(**arguments, guidance=MaskGuidedAttention(per_class=True)),
    "detached": lambda **arguments: CMFFUNet(**arguments, guidance=MaskGuidedAttention(detach=True)),
    "no mask": CMFFUNet,
    "CBAM": partial(CMFFUNet, attention=CBAM),
    "mean": BranchesUNet,
    "A": partial(BranchesUNet, branches="A"),
    "B": partial(BranchesUNet, branches="B"),
}
GROUPINGS = [[[0], [1]], [[0, 2], [1, 3]], [[2], [0, 1]]]
SIZES = [(2, False, (16, 8)), (2, True, (48, 40)), (3, False, (8, 16, 12))]


def image(network, dimensions=2):
    side = {2: 16, 3: 8}[dimensions]
    return torch.randn(2, network.input_channels, *(side,) * dimensions)


def tensors_of(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in tensors_of(part)]


def stock_of(arguments, channels):
    family = ResidualEncoderUNet if "n_blocks_per_stage" in arguments else PlainConvUNet
    others = {key: value for key, value in arguments.items() if key not in ("streams", "input_channels")}
    return family(channels, **others)


@pytest.mark.parametrize(
    "streams, dimensions, residual, deep_supervision",
    one_fast_in(3, product(GROUPINGS, [2, 3], [False, True], [False, True])),
    ids=str,
)
def test_three_outputs_in_training_and_one_in_eval(
    make_unet_arguments, streams, dimensions, residual, deep_supervision
):
    arguments = make_unet_arguments(streams, dimensions, residual, deep_supervision=deep_supervision)
    network = NETWORKS["CMFF"](**arguments)
    x = image(network, dimensions)
    fused, branches = network.train()(x)
    alone = network.eval()(x)
    assert len(branches) == 2
    fine, coarse = (2, 3, *x.shape[2:]), (2, 3, *[side // 2 for side in x.shape[2:]])
    for output, expected in [(fused, [fine]), (alone, [fine]), *[(branch, [fine, coarse]) for branch in branches]]:
        assert isinstance(output, list) == deep_supervision
        assert [level.shape for level in tensors_of(output)] == (expected if deep_supervision else [fine])


@pytest.mark.parametrize(
    "dimensions, residual, deep_supervision", one_fast_in(5, product([2, 3], [False, True], [False, True]))
)
def test_a_branch_is_nnunets_own_network_on_its_stream(make_unet_arguments, dimensions, residual, deep_supervision):
    """By its names of parameters too, which generators share."""
    streams = [[2], [0, 1]]
    arguments = make_unet_arguments(streams, dimensions, residual, deep_supervision=deep_supervision)
    network = NETWORKS["CMFF"](**arguments)
    x = image(network, dimensions)
    _, logits = network.train()(x)
    for name, channels, output in zip("AB", streams, logits):
        stock = stock_of(arguments, len(channels))
        stock.load_state_dict(network.branches[name].state_dict())
        expected = stock(x[:, channels])
        assert all(torch.equal(a, b) for a, b in zip(tensors_of(output), tensors_of(expected), strict=True))
        alone = BranchesUNet(**arguments, branches=name)
        alone.load_state_dict({key: value for key, value in network.state_dict().items() if key in alone.state_dict()})
        assert torch.equal(tensors_of(alone(x))[0], tensors_of(output)[0])
        assert alone.encoder.stream_channels == [channels]


@pytest.mark.parametrize("residual", [False, True])
def test_all_but_heads_carry_over_from_a_network_of_other_outputs(make_unet_arguments, residual):
    arguments = make_unet_arguments([[0, 1], [2, 3]], residual=residual)
    network = NETWORKS["CMFF"](**arguments)
    generator = stock_of({**arguments, "num_classes": 2}, channels=2)
    weights = {key: value for key, value in generator.state_dict().items() if ".seg_layers." not in key}
    missing, unexpected = network.branches["A"].load_state_dict(weights, strict=False)
    assert not unexpected and missing and all(".seg_layers." in key for key in missing)
    assert all(torch.equal(network.state_dict()[f"branches.A.{key}"], value) for key, value in weights.items())

    def count(module):
        return sum(p.numel() for p in module.parameters())

    widths = arguments["features_per_stage"][:-1]
    assert count(network.branches["A"]) - count(generator) == sum((3 - 2) * (width + 1) for width in widths)


def test_last_layers_and_they_alone_are_named_seg_layers(make_unet_arguments):
    few, many = (NETWORKS["CBAM"](**make_unet_arguments([[0], [1]], num_classes=n)).state_dict() for n in (2, 5))
    assert few.keys() == many.keys()
    assert {key for key in few if few[key].shape != many[key].shape} == {key for key in few if ".seg_layers." in key}


def test_every_network_holds_a_part_of_the_names_of_the_one_with_cbam(make_unet_arguments):
    arguments = make_unet_arguments([[0], [1]])
    shapes = {
        name: {key: value.shape for key, value in build(**arguments).state_dict().items()}
        for name, build in NETWORKS.items()
    }
    assert shapes["CMFF"] == shapes["no mask"] == shapes["F*M"]
    assert shapes["per class"].keys() == shapes["CMFF"].keys()  # the shape of its last layer is another
    del shapes["per class"]
    assert all(of.items() <= shapes["CBAM"].items() for of in shapes.values())


def outputs_of_layers(decoder, skips):
    """What convolution layers of a decoder put out, in the order in which they run."""
    outputs = []
    layers = [*decoder.transpconvs, *[conv for stage in decoder.stages for conv in stage.convs]]
    hooks = [layer.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for layer in layers]
    logits = decoder(skips)
    for hook in hooks:
        hook.remove()
    return logits, outputs


@pytest.mark.parametrize("n_convolutions", [1, 2, 3])
@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("dimensions, residual", [(2, False), (3, True)])
def test_taps_are_the_last_two_convolution_layers(
    make_unet_arguments, dimensions, residual, deep_supervision, n_convolutions
):
    """With one convolution in the last stage the other layer is the transposed convolution before it."""
    architecture = make_unet_arguments([[0]], dimensions, residual)
    for key in ("streams", "num_classes", "deep_supervision", "input_channels"):
        del architecture[key]
    encoder = encoder_of(architecture, 1)
    decoder = TappedDecoder(encoder, 3, n_convolutions, deep_supervision)
    skips = encoder(torch.randn(2, 1, *(16,) * dimensions))
    logits, taps = decoder.with_taps(skips)
    expected_logits, layers = outputs_of_layers(decoder, skips)
    assert len(taps) == 2 and all(torch.equal(tap, layer) for tap, layer in zip(taps, layers[-2:]))
    assert all(torch.equal(a, b) for a, b in zip(logits, tensors_of(expected_logits), strict=True))
    assert taps[0].shape == taps[1].shape == (2, 4, *(16,) * dimensions)


def test_a_branch_reads_its_own_stream_and_s_f_both(make_unet_arguments):
    network = NETWORKS["CMFF"](**make_unet_arguments([[2], [0, 1]]))
    x = image(network)
    fused, (a, b) = network(x)
    x[:, 1] += torch.randn(16, 16)
    changed, (a_changed, b_changed) = network(x)
    assert torch.equal(a, a_changed)
    assert not torch.equal(b, b_changed) and not torch.equal(fused, changed)


@pytest.mark.parametrize("regions", [False, True])
def test_s_f_is_guided_by_the_mean_mask_of_both_branches(make_unet_arguments, regions):
    guided = CMFFUNet(**make_unet_arguments([[0], [1]]), guidance=MaskGuidedAttention(identity=False), regions=regions)
    with torch.no_grad():
        for branch in guided.branches.values():
            head = branch.decoder.seg_layers[-1]
            head.weight.zero_()
            head.bias.copy_(torch.tensor([-100.0, -100, -100] if regions else [100, -100, -100]))
    fused, _ = guided(image(guided))
    bias = guided.fusion.seg_layers[0].bias.view(1, -1, 1, 1)
    torch.testing.assert_close(fused, bias.expand_as(fused))  # no foreground: nothing but the bias is left


@pytest.mark.parametrize("name, reaches", [("CMFF", True), ("detached", False), ("no mask", False), ("CBAM", False)])
def test_the_loss_of_s_f_trains_heads_of_branches_through_the_mask_alone(make_unet_arguments, name, reaches):
    network = NETWORKS[name](**make_unet_arguments([[0], [1]]))
    fused, _ = network(image(network))
    fused.square().mean().backward()
    for branch in network.branches.values():
        assert (branch.decoder.seg_layers[-1].weight.grad is not None) == reaches
        assert branch.decoder.stages[-1].convs[-1].conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient_or_asks_for_none(make_unet_arguments, name, deep_supervision):
    network = NETWORKS[name](**make_unet_arguments([[0], [1]], deep_supervision=deep_supervision))
    sum(output.square().mean() for output in tensors_of(network(image(network)))).backward()
    assert all((p.grad is not None) == p.requires_grad for p in network.parameters())
    frozen = {key.rpartition(".")[0] for key, p in network.named_parameters() if not p.requires_grad}
    coarse = {f"branches.{branch}.decoder.seg_layers.0" for branch in network.branches}
    assert frozen == (set() if deep_supervision else coarse)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_list_of_logits_is_switched_off_through_the_decoder_as_nnunet_does(make_unet_arguments, name):
    network = NETWORKS[name](**make_unet_arguments([[0], [1]], deep_supervision=True)).eval()
    assert network.decoder.deep_supervision
    x = image(network)
    finest = network(x)[0]
    network.decoder.deep_supervision = False
    assert torch.equal(network(x), finest)


@pytest.mark.parametrize("regions", [False, True])
def test_the_mean_is_that_of_probabilities(regions):
    a, b = torch.randn(2, 3, 4, 5) * 4, torch.randn(2, 3, 4, 5) * 4
    of = torch.sigmoid if regions else partial(torch.softmax, dim=1)
    torch.testing.assert_close(of(logits_of_mean_probability(a, b, regions)), (of(a) + of(b)) / 2)


@pytest.mark.parametrize("regions", [False, True])
def test_the_mean_of_certain_and_opposite_branches_is_finite(regions):
    a = torch.tensor([60000.0, -60000.0]).view(1, 2, 1).half()
    mean = logits_of_mean_probability(a, -a, regions)
    of = torch.sigmoid if regions else partial(torch.softmax, dim=1)
    assert torch.equal(of(mean), torch.full((1, 2, 1), 0.5))
    assert torch.isfinite(logits_of_mean_probability(a, a, regions)).all()


def test_the_mean_in_eval_and_both_branches_in_training(make_unet_arguments):
    network = BranchesUNet(**make_unet_arguments([[0], [1]]))
    x = image(network)
    a, (b,) = network.train()(x)
    torch.testing.assert_close(network.eval()(x).softmax(1), (a.softmax(1) + b.softmax(1)) / 2)


@pytest.mark.parametrize("streams, half", [([[0], [1], [2]], 1), ([[3], [0], [1], [2]], 2), ([[1, 0, 2, 3]], 2)])
@pytest.mark.parametrize("name", ["CMFF", "A"])
def test_another_number_of_streams_is_refused_with_the_entry_to_write(make_unet_arguments, name, streams, half):
    channels = list(range(sum(map(len, streams))))
    with pytest.raises(XModalError) as error:
        NETWORKS[name](**make_unet_arguments(streams))
    assert f"the plans hold {len(streams)}, {streams}: write for example" in str(error.value)
    assert f'"xmodal": {{"streams": [{channels[:half]}, {channels[half:]}]}} into dataset.json' in str(error.value)


def test_a_single_channel_is_refused(make_unet_arguments):
    with pytest.raises(XModalError, match="the dataset has a single channel"):
        CMFFUNet(**make_unet_arguments([[0]]))


def test_channels_of_a_cascade_go_to_both_branches(make_unet_arguments):
    network = CMFFUNet(**make_unet_arguments([[0], [1]], extra_channels=2))
    assert network.encoder.stream_channels == [[0, 2, 3], [1, 2, 3]]
    assert network.grouping.streams == [[0], [1]]


@pytest.mark.parametrize("theirs", [[[1], [0]], [[0, 1], [2]], [[0], [1, 2, 3]]], ids=str)
@pytest.mark.parametrize("name", ["CMFF", "A", "mean"])
def test_weights_of_other_streams_are_refused_and_none_is_loaded(make_unet_arguments, tmp_path, name, theirs):
    """Loaded as they are, and with nnU-Net's own `-pretrained_weights`."""
    network = NETWORKS[name](**make_unet_arguments([[0], [1]]))
    other = NETWORKS["CMFF"](**make_unet_arguments(theirs))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(XModalError) as error:
        network.load_state_dict(other.state_dict(), strict=False)
    assert f"were trained on the streams {theirs}, but the plans or dataset.json say [[0], [1]]" in str(error.value)
    if sum(map(len, theirs)) == 2:  # else nnU-Net stops at other shapes
        torch.save({"network_weights": other.state_dict()}, tmp_path / "checkpoint.pth")
        with pytest.raises(XModalError, match="were trained on the streams"):
            load_pretrained_weights(network, tmp_path / "checkpoint.pth")
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", one_fast_in(3, ["CMFF", "A", "B", "mean", "CBAM"]))
def test_nnunets_pretrained_weights_take_all_but_the_heads(make_unet_arguments, tmp_path, name):
    arguments = make_unet_arguments([[0, 2], [1, 3]])
    source, network = NETWORKS["CBAM"](**arguments), NETWORKS[name](**arguments)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    torch.save({"network_weights": source.state_dict()}, tmp_path / "checkpoint.pth")
    load_pretrained_weights(network, tmp_path / "checkpoint.pth")
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key] if ".seg_layers." in key else source.state_dict()[key]), key


def test_streams_of_many_channels_are_named_in_full():
    many = [list(range(90)), list(range(90, 180))]
    StreamGrouping(many).load_state_dict(StreamGrouping(many).state_dict())
    with pytest.raises(XModalError, match="streams of 600 channels are more than"):
        StreamGrouping([list(range(300)), list(range(300, 600))])


@pytest.mark.parametrize(
    "name, dimensions, residual, size, deep_supervision",
    one_fast_in(5, [(name, *size, on) for name in NETWORKS for size in SIZES for on in (False, True)]),
)
def test_feature_map_size_is_what_convolutions_put_out(
    make_unet_arguments, count_conv_outputs, name, dimensions, residual, size, deep_supervision
):
    options = {"deep_supervision": deep_supervision, "widths": (4, 8, 12)}
    network = NETWORKS[name](**make_unet_arguments([[0], [1, 2]], dimensions, residual, **options))
    counted = count_conv_outputs(network, torch.randn(1, network.input_channels, *size))
    assert network.compute_conv_feature_map_size(list(size)) == counted


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, dimensions, residual, deep_supervision",
    [("CMFF", 2, True, True), ("CBAM", 2, False, False), ("mean", 2, False, True)],
)
def test_compiles_without_a_graph_break(make_unet_arguments, name, dimensions, residual, deep_supervision):
    options = {"deep_supervision": deep_supervision, "widths": (4, 8)}
    network = NETWORKS[name](**make_unet_arguments([[0, 2], [1]], dimensions, residual, **options))
    x = image(network, dimensions)
    for training in (True, False):
        torch._dynamo.reset()
        network.train(training)
        compiled = torch.compile(network, fullgraph=True, backend="eager")
        outputs, expected = tensors_of(compiled(x)), tensors_of(network(x))
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(outputs, expected, strict=True))
