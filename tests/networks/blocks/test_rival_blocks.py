"""Blocks of other papers' networks beside their definitions, written out."""

from math import sqrt

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.networks.blocks.cycle_resemblance import CycleAttention, CycleResemblance
from nnunet_xmodal.networks.blocks.hierarchical_separable import HierarchicalSeparableConvolution
from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes
from nnunet_xmodal.networks.blocks.master_selection import MasterSelection
from nnunet_xmodal.networks.blocks.modal_transformers import ModalTransformers, TransformerLayer
from nnunet_xmodal.networks.blocks.multi_res import MultiResBlock, ResPath, multi_res_widths
from nnunet_xmodal.networks.blocks.recurrent_mask import ContextRelation, RecurrentPrototypes, local_correlation
from nnunet_xmodal.networks.octopus_net import HyperFusion
from nnunet_xmodal.networks.plan_layers import PlanLayers


@pytest.fixture
def layers(make_unet_arguments):
    def make(dimensions=2):
        arguments = make_unet_arguments([[0]], dimensions)
        return PlanLayers({name: value for name, value in arguments.items() if name not in ("streams",)})

    return make


@pytest.mark.parametrize("dimensions, flat, across", [(2, (3, 1), (1, 3)), (3, (3, 3, 1), (1, 3, 3))])
def test_groups_of_hsc_feed_each_other_and_see_two_views(layers, dimensions, flat, across):
    block = HierarchicalSeparableConvolution(layers(dimensions), 4, 8, [3] * dimensions)
    assert [conv.conv.kernel_size for conv in block.groups] == [flat] * 3 and block.across.conv.kernel_size == across
    x = torch.randn(2, 4, *[4] * dimensions)
    u = block.spread(x)
    v1, v2 = u[:, :2], block.groups[0](u[:, 2:4])
    v3 = block.groups[1](u[:, 4:6] + v2)
    v4 = block.groups[2](u[:, 6:] + v3)
    y = block.across(block.shortcut(x) + block.join(torch.cat((v1, v2, v3, v4), 1)))
    torch.testing.assert_close(block(x), y)
    assert len(HierarchicalSeparableConvolution(layers(), 4, 6, [3, 3]).groups) == 1  # two groups of three


def test_a_multi_res_block_has_the_papers_widths_and_equation(layers):
    assert multi_res_widths(32) == [8, 17, 26]  # the published network's first block
    block = MultiResBlock(layers(), 2, 8, [3, 3])
    x = torch.randn(2, 2, 8, 8)
    a = block.convolutions[0](x)
    b = block.convolutions[1](a)
    three = block.norm_of_three(torch.cat((a, b, block.convolutions[2](b)), 1))
    torch.testing.assert_close(block(x), block.norm(F.leaky_relu(three + block.shortcut(x))))
    path = ResPath(layers(), 3, 4, [3, 3], 2)
    x = y = torch.randn(2, 3, 8, 8)
    for convolution, shortcut, norm in zip(path.convolutions, path.shortcuts, path.norms):
        y = norm(F.leaky_relu(convolution(y) + shortcut(y)))
    torch.testing.assert_close(path(x), y)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_hyper_fusion_is_a_convolution_of_the_concatenation(dimensions):
    convolution = (nn.Conv2d, nn.Conv3d)[dimensions - 2]
    fusion = HyperFusion(convolution, [3, 2, 5], 4)
    maps = [torch.randn(2, channels, *[side] * dimensions) for channels, side in ((3, 8), (2, 4), (5, 2))]
    mode = ("bilinear", "trilinear")[dimensions - 2]
    whole = torch.cat([F.interpolate(one, maps[0].shape[2:], mode=mode) for one in maps], 1)
    weight = torch.cat([part.weight for part in fusion.parts], 1)
    expected = (F.conv2d, F.conv3d)[dimensions - 2](whole, weight, fusion.parts[0].bias)
    torch.testing.assert_close(fusion(maps), expected, atol=1e-5, rtol=1e-5)


def test_a_master_weighs_its_assistants_and_stays_as_it_is():
    selection = MasterSelection(nn.Conv2d, [4], 3, master=1)
    features = [[torch.randn(2, 4, 8, 8)] for _ in range(3)]
    selected = selection(features)
    assert selected[1][0] is features[1][0]
    for stream in (0, 2):
        phi, _, psi, _ = selection.maps[str(stream)][0]
        weight = psi(phi(torch.cat((features[1][0], features[stream][0]), 1)).relu()).sigmoid()
        assert weight.shape == (2, 1, 8, 8)
        torch.testing.assert_close(selected[stream][0], weight * features[stream][0])


def test_a_transformer_layer_is_attention_and_a_feed_forward_network():
    layer = TransformerLayer(16, heads=2, dropout=0.0)
    x = tokens = torch.randn(2, 5, 16)
    q, k, v = layer.qkv(layer.norm_of_attention(x)).chunk(3, 2)
    heads = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        weights = (q[..., part] @ k[..., part].mT / sqrt(8)).softmax(-1)
        heads.append(weights @ v[..., part])
    x = x + layer.projection(torch.cat(heads, 2))
    torch.testing.assert_close(layer(tokens), x + layer.feed_forward(x))


def test_tokens_of_streams_meet_and_come_back_to_their_places():
    block = ModalTransformers(nn.Conv2d, 4, 2, size=(2, 3), dropout=0.0).eval()
    nn.init.normal_(block.positions)
    a, b = torch.randn(2, 2, 4, 2, 3)
    present = torch.tensor([[True, True], [True, False]])

    def within(stream, x):
        tokens = block.encode[stream](x).flatten(2).mT
        return block.within[stream](tokens + block.positions[stream].flatten(1).mT[None])

    of_a, of_b = within(0, a), within(1, b) * present[:, 1, None, None]
    together = block.between(torch.cat((of_a, of_b), 1) + block.positions.flatten(2).mT.flatten(0, 1)[None])
    maps = torch.cat([one.mT.reshape(2, 16, 2, 3) for one in together.split(6, 1)], 1)
    torch.testing.assert_close(block([a, b], present), block.decode(maps))
    assert block([a.repeat(1, 1, 2, 2), b.repeat(1, 1, 2, 2)]).shape == (2, 4, 4, 6)  # another patch


def test_local_correlation_by_loops():
    a, b = torch.randn(2, 1, 3, 4, 5)
    found = local_correlation(a, b, 1)
    expected = torch.zeros(1, 9, 4, 5)
    for y in range(4):
        for x in range(5):
            for dy in range(3):
                for dx in range(3):
                    row, column = y + dy - 1, x + dx - 1
                    if 0 <= row < 4 and 0 <= column < 5:
                        product = (a[0, :, y, x] * b[0, :, row, column]).sum() / sqrt(3)
                        expected[0, 3 * dy + dx, y, x] = product
    torch.testing.assert_close(found, expected)


def test_masks_are_refined_in_rounds():
    block = RecurrentPrototypes(8, rounds=2, radius=1).eval()
    support, query = torch.randn(2, 3, 8, 6, 6), torch.randn(2, 8, 6, 6)
    mask, exists = (torch.rand(2, 3, 6, 6) > 0.5).float(), torch.tensor([[True, True, False], [True, False, False]])
    of_support = torch.stack([block.relation(support[:, shot], mask[:, shot]) for shot in range(3)], 1)
    guess = torch.stack((mask[0, :2].mean(0), mask[1, 0]))
    for _ in range(2):
        scores = ClassPrototypes()(of_support, mask, block.relation(query, guess), exists)
        guess = scores.argmax(1).float()
    torch.testing.assert_close(block(support, mask, query, exists), scores)
    relation = ContextRelation(8, radius=1).eval()
    inside, outside = (
        relation.of_foreground(query * guess[:, None]),
        relation.of_background(query * (1 - guess[:, None])),
    )
    expected = relation.join(torch.cat((local_correlation(inside, outside, 1), inside), 1))
    torch.testing.assert_close(relation(query, guess), expected)


def test_episodes_about_one_pair_of_slices_share_its_products():
    """What eight superpixels ask of a pair of slices is what eight pairs of the same slices would be asked."""
    block = RecurrentPrototypes(8, radius=1)
    support, query, mask = torch.randn(2, 3, 8, 6, 6), torch.randn(2, 8, 6, 6), (torch.rand(5, 3, 6, 6) > 0.7).float()
    pair = torch.tensor([1, 0, 0, 1, 1])
    torch.testing.assert_close(block(support, mask, query, pair=pair), block(support[pair], mask, query[pair]))
    torch.testing.assert_close(
        ClassPrototypes()(support, mask, query, pair=pair), ClassPrototypes()(support[pair], mask, query[pair])
    )


@pytest.mark.parametrize("height, width", [(1, 3), (4, 5), (9, 6)])
def test_local_correlation_is_that_of_all_positions(height, width):
    """Rows are taken a few at a time."""
    a, b = torch.randn(2, 2, 3, height, width)
    every = F.pad(b, [2] * 4).unfold(2, 5, 1).unfold(3, 5, 1)  # B C h w 5 5
    expected = torch.einsum("bchw,bchwij->bijhw", a, every).flatten(1, 2) / sqrt(3)
    torch.testing.assert_close(local_correlation(a, b, 2), expected)


def taking(block):
    """With weights behind which something is taken: they begin at 0."""
    for module in block.modules():
        if isinstance(module, CycleAttention):
            nn.init.normal_(module.out.weight)
    return block


def test_cycle_attention_by_loops():
    x, other = torch.randn(1, 4, 3), torch.randn(1, 4, 5)
    assert torch.equal(CycleAttention(4)(x, other), x)
    block = taking(CycleAttention(4))
    q, (k, v) = block.query(x)[0], block.key_value(other)[0].chunk(2)
    affinity = torch.stack([torch.stack([q[:, i] @ k[:, j] / 2 for j in range(5)]) for i in range(3)])
    there, back = affinity.softmax(1), affinity.softmax(0)
    taken = torch.zeros(4, 3)
    for i in range(3):
        weights = [there[i, j] * sum(back[n, j] * there[n, j] for n in range(3)) for j in range(5)]
        taken[:, i] = sum(weight * v[:, j] for j, weight in enumerate(weights)) / sum(weights)
    torch.testing.assert_close(block(x, other), x + block.out(taken[None]))


def test_every_shot_meets_the_query_alone():
    block = taking(CycleResemblance(4))
    support, query, exists = (
        torch.randn(2, 3, 4, 2, 2),
        torch.randn(2, 4, 3, 3),
        torch.tensor([[True] * 3, [True, False, True]]),
    )
    ours, theirs = block(support, query, torch.ones(2, 3, 2, 2), exists)
    of_shots = [block(support[:, [shot]], query, torch.ones(2, 1, 2, 2)) for shot in range(3)]
    torch.testing.assert_close(ours, torch.cat([of_shot for of_shot, _ in of_shots], 1))
    each = torch.stack([of_query for _, of_query in of_shots], 1)
    torch.testing.assert_close(theirs, torch.stack((each[0].mean(0), each[1, ::2].mean(0))))
    pair = torch.tensor([1, 0, 1])
    of_pairs = block(support, query, torch.ones(3, 3, 2, 2), pair=pair)
    torch.testing.assert_close(of_pairs[0], block(support, query, torch.ones(2, 3, 2, 2))[0][pair])


def test_episodes_of_one_pair_share_its_attention():
    """Eight superpixels of a pair of slices ask for the same walks."""
    block, images = CycleResemblance(4), []
    block.of_query[0].register_forward_hook(lambda module, inputs, output: images.append(len(output)))
    block(torch.randn(2, 1, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.ones(8, 1, 3, 3), pair=torch.arange(8) % 2)
    assert images == [2]


@pytest.mark.parametrize("scale", [1, 30, 1000])
def test_cycle_attention_is_finite_however_far_apart_logits_are(scale):
    """The product of both softmaxes is 0 for whole rows from about 100 on."""
    torch.manual_seed(0)
    block = taking(CycleAttention(4))
    x, other = (scale * torch.randn(2, 4, 6)).requires_grad_(), scale * torch.randn(2, 4, 5)
    block(x, other).sum().backward()
    assert torch.isfinite(block(x, other)).all() and torch.isfinite(x.grad).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in block.parameters())
