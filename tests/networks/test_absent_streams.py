"""What an absent stream holds changes nothing, and whoever has all streams notices nothing."""

from functools import partial
from itertools import product

import pytest
import torch
from fast_ones import one_fast_in

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss
from nnunet_xmodal.networks.blocks.attention_gates import AttentionGates
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.cmff_unet import CMFFUNet
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet


def csad(scheme, **options):
    paths = DistillationPaths(scheme, AttentionMapGenerationBlock())
    return partial(MultiStreamUNet, fusion=SpatialCorrelatedFeatureFusion, distillation=paths, **options)


NETWORKS = {
    "concatenation": (MultiStreamUNet, [[0], [1]]),
    "skips of some": (partial(MultiStreamUNet, reduce_some=True), [[0], [1, 2]]),
    "wide skips": (partial(MultiStreamUNet, reduce_skips=False), [[0], [1, 2]]),
    "gates": (partial(MultiStreamUNet, attention=AttentionGates), [[0], [1]]),
    "CSAD": (csad("ILC"), [[0, 2], [1]]),
    "CSAD, three streams": (csad("ILC"), [[0], [1], [2]]),
    "PLC, three streams": (csad("PLC"), [[2], [1], [0]]),
    "CMFF": (partial(CMFFUNet, guidance=MaskGuidedAttention()), [[1], [0, 2]]),
    "CMFF per class": (partial(CMFFUNet, guidance=MaskGuidedAttention(per_class=True, identity=False)), [[0], [1]]),
    "CMFF regions": (partial(CMFFUNet, guidance=MaskGuidedAttention(), regions=True), [[0], [1]]),
    "CMFF no mask": (CMFFUNet, [[0], [1]]),
    "CMFF CBAM": (partial(CMFFUNet, attention=CBAM), [[0], [1]]),
}


@pytest.fixture(params=one_fast_in(2, NETWORKS))
def network(request, make_unet_arguments):
    build, streams = NETWORKS[request.param]
    return build(**make_unet_arguments(streams, deep_supervision=True))


def encoders_of(network):
    if isinstance(network, CMFFUNet):
        return list(network.branches.values())
    return list(network.encoder.streams)


def subsets_of(network):
    """All that lack a stream, as rows of `present`."""
    n_streams = len(encoders_of(network))
    return [subset for subset in product((True, False), repeat=n_streams) if any(subset) and not all(subset)]


def image(network, batch=2):
    return torch.randn(batch, network.input_channels, 16, 16)


def tensors_of(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in tensors_of(part)]


def gradients_of(network, x, present):
    network.zero_grad()
    outputs = tensors_of(network(x, present))
    sum(output.square().mean() for output in outputs).backward()
    reached = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    return [output.detach() for output in outputs], reached


def equal(ours, theirs):
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs))


def test_with_all_streams_present_it_is_the_network_that_knows_of_none_missing(network):
    x = image(network)
    everything = torch.ones(2, len(encoders_of(network)), dtype=torch.bool)
    (outputs, gradients), (expected, expected_gradients) = (gradients_of(network, x, p) for p in (everything, None))
    assert equal(outputs, expected)
    assert equal(
        *([g for g in of if g.any()] for of in (gradients, expected_gradients))
    )  # 0: what serves absence alone
    network.eval()
    assert equal(tensors_of(network(x, everything)), tensors_of(network(x)))


@pytest.mark.parametrize("training", one_fast_in(2, [True, False]))
def test_the_content_of_an_absent_stream_does_not_matter(network, training):
    network.train(training)
    x = image(network)
    for subset in subsets_of(network):
        present = torch.tensor([subset, [True] * len(subset)])  # the other sample has all
        expected, expected_gradients = gradients_of(network, x, present)
        assert all(torch.isfinite(tensor).all() for tensor in (*expected, *expected_gradients))
        for content in (1e30, float("nan"), float("inf")):
            changed = x.clone()
            for channels, is_present in zip(network.encoder.stream_channels, subset):
                if not is_present:
                    changed[0, channels] = content
            outputs, gradients = gradients_of(network, changed, present)
            assert equal(outputs, expected) and equal(gradients, expected_gradients), content


def test_a_present_stream_does_matter(network):
    network.eval()
    x = image(network)
    for subset in subsets_of(network):
        present = torch.tensor([subset] * 2)
        for channels, is_present in zip(network.encoder.stream_channels, subset):
            changed = x.clone()
            changed[:, channels] += torch.randn(16, 16)
            assert equal(tensors_of(network(changed, present)), tensors_of(network(x, present))) != is_present


def test_an_absent_stream_learns_nothing_and_the_others_do(network):
    for subset in subsets_of(network):
        gradients_of(network, image(network), torch.tensor([subset] * 2))
        for encoder, is_present in zip(encoders_of(network), subset):
            norms = [p.grad.abs().sum() for p in encoder.parameters() if p.requires_grad]
            assert all((norm == 0) for norm in norms) != is_present


def test_samples_of_a_batch_lack_streams_of_their_own(network):
    network.eval()
    subsets = subsets_of(network)
    x = image(network, batch=len(subsets))
    together = tensors_of(network(x, torch.tensor(subsets)))
    for sample, subset in enumerate(subsets):
        alone = tensors_of(network(x[sample : sample + 1], torch.tensor([subset])))
        assert all(torch.allclose(a[sample : sample + 1], b, atol=1e-5) for a, b in zip(together, alone))


def test_nan_in_a_present_stream_is_still_named(network):
    network.eval()
    x = image(network)
    x[0, network.encoder.stream_channels[0], 3, 3] = float("nan")
    for subset in subsets_of(network):
        if subset[0]:
            with pytest.raises(XModalError, match="NaN or infinite"):
                network(x, torch.tensor([subset] * 2))


@pytest.mark.parametrize("name", ["CSAD", "CMFF"])
def test_channels_of_a_cascade_are_read_by_whoever_is_present(make_unet_arguments, name):
    build, streams = NETWORKS[name]
    network = build(**make_unet_arguments(streams, extra_channels=2)).eval()
    x = image(network)
    for subset in subsets_of(network):
        present = torch.tensor([subset] * 2)
        before = network(x, present)
        changed = x.clone()
        changed[:, -1] += torch.randn(16, 16)
        assert not torch.equal(network(changed, present), before)


@pytest.mark.parametrize("softmax", ["dual", "row", "all"])
def test_a_stream_that_is_alone_reaches_the_bottleneck(make_unet_arguments, softmax):
    fusion = partial(SpatialCorrelatedFeatureFusion, softmax=softmax)
    network = MultiStreamUNet(**make_unet_arguments([[0], [1]]), fusion=fusion).eval()
    x = image(network)
    present = torch.tensor([[True, False], [False, True]])
    bottleneck = network.encoder.fuse(network.encoder.stream_features(x, present), present)[-1]
    assert (bottleneck[0, :4] != 0).any() and (bottleneck[0, 4:] == 0).all()
    assert (bottleneck[1, :4] == 0).all() and (bottleneck[1, 4:] != 0).any()


@pytest.mark.parametrize("name", ["CSAD", "PLC, three streams"])
def test_maps_that_lack_a_partner_are_not_distilled(make_unet_arguments, name):
    """The loss is that of the samples and pairs of streams that are there, over the whole batch."""
    build, streams = NETWORKS[name]
    network = build(**make_unet_arguments(streams))
    x, loss = image(network), AttentionDistillationLoss()
    everything = torch.ones(1, len(streams), dtype=torch.bool)
    for subset in subsets_of(network):
        one = torch.tensor([subset])
        _, pairs = network(x, torch.cat((everything, one)))
        (_, of_first), (_, of_second) = network(x[:1], everything), network(x[1:], one)
        torch.testing.assert_close(loss(pairs), (loss(of_first) + loss(of_second)) / 2)
        if sum(subset) == 1:
            assert loss(of_second) == 0


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_the_branch_of_an_absent_stream_answers_with_the_others_logits(make_unet_arguments, deep_supervision):
    build, streams = NETWORKS["CMFF"]
    network = build(**make_unet_arguments(streams, deep_supervision=deep_supervision))
    _, (a, b) = network(image(network), torch.tensor([[True, False], [False, True]]))
    assert equal(tensors_of(a), tensors_of(b))


def test_s_f_is_guided_by_the_masks_of_present_branches_alone():
    logits = [torch.randn(3, 3, 4, 4) for _ in range(2)]
    present = torch.tensor([[True, True], [True, False], [False, True]])
    for block in (MaskGuidedAttention(), MaskGuidedAttention(per_class=True)):
        a, b = (block.mask([of], False) for of in logits)
        expected = torch.cat(((a[:1] + b[:1]) / 2, a[1:2], b[2:]))
        torch.testing.assert_close(block.mask(logits, False, present), expected)


@pytest.mark.parametrize("name", one_fast_in(2, NETWORKS))
def test_a_block_drops_streams_in_training_only_and_changes_no_name(make_unet_arguments, name):
    build, streams = NETWORKS[name]
    arguments = make_unet_arguments(streams)
    plain, dropping = build(**arguments), build(**arguments, stream_dropout=StreamDropout(0.9))
    dropping.load_state_dict(plain.state_dict())
    x = image(plain)
    assert equal(tensors_of(dropping.eval()(x)), tensors_of(plain.eval()(x)))

    dropping.train()
    torch.manual_seed(3)
    present = dropping.stream_dropout(x, len(streams))
    assert not present.all()
    torch.manual_seed(3)
    assert equal(tensors_of(dropping(x)), tensors_of(plain.train()(x, present)))


@pytest.mark.parametrize("name", one_fast_in(2, NETWORKS))
def test_every_parameter_gets_a_gradient_whatever_is_dropped(make_unet_arguments, name):
    """DistributedDataParallel waits for all of them."""
    build, streams = NETWORKS[name]
    network = build(**make_unet_arguments(streams, deep_supervision=True))
    for subset in subsets_of(network):
        gradients_of(network, image(network), torch.tensor([subset] * 2))
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["CSAD", "PLC, three streams", "CMFF"])
def test_dropping_does_not_break_a_graph(make_unet_arguments, name):
    build, streams = NETWORKS[name]
    network = build(**make_unet_arguments(streams, widths=(4, 8)), stream_dropout=StreamDropout())
    x = image(network)
    torch._dynamo.reset()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    for seed in range(3):
        torch.manual_seed(seed)
        outputs = tensors_of(compiled(x))
        torch.manual_seed(seed)
        for output, expected in zip(outputs, tensors_of(network(x)), strict=True):
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    sum(output.mean() for output in outputs).backward()
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


def test_samples_that_lack_a_stream_have_reductions_of_their_own_and_the_others_do_not_see_them(make_unet_arguments):
    network = MultiStreamUNet(**make_unet_arguments([[0], [1]]), reduce_some=True).eval()
    x, some = image(network), torch.tensor([[True, True], [True, False]])
    before = network(x, some)
    for reduction in network.encoder.reductions_of_some:
        torch.nn.init.zeros_(reduction.weight)
    after = network(x, some)
    assert torch.equal(before[0], after[0]) and not torch.equal(before[1], after[1])
    one_stream = MultiStreamUNet(**make_unet_arguments([[0, 1]]), reduce_some=True)
    assert one_stream.encoder.reductions_of_some is None  # nothing to reduce, nothing to lack
