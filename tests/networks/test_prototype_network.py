import copy

import pytest
import torch
from prototype_networks import (
    METHODS,
    SIZE,
    IdealBackbone,
    block_mask,
    episode_of,
    filled,
    network_of,
    query_of,
)
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.local_prototypes import LocalPrototypes
from nnunet_xmodal.networks.resnet_backbone import ResNetBackbone


def dice(a, b):
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("method", METHODS)
def test_two_scores_per_image_of_an_episode_and_one_logit_per_label(method):
    network = network_of(method, labels=3, shots=2, input_channels=2)
    scores, alignment = network(*episode_of(network, batch=2, shots=3))
    assert scores.shape == (2, 2, *SIZE) and alignment.shape == (6, 2, *SIZE)
    filled(network).eval()
    logits = network(query_of(network))
    assert logits.shape == (2, 4, *SIZE) and (logits[:, 0] == 0).all()
    assert logits.abs().max() <= 40 * (1 + 1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_an_episode_is_what_its_parts_give(method):
    """Spelt out for one shot, the alignment with a support of the prediction."""
    network = network_of(method).eval()
    query, support, mask = episode_of(network, batch=1, shots=1)
    with torch.no_grad():
        f_q, f_s = network.backbone(query), network.backbone(support[0])[None]
        y = F.interpolate(mask.float(), size=(8, 8), mode="bilinear")
        if network.cross_reference is not None:
            f_s, f_q = network.cross_reference(f_s, f_q, y)
        coarse = network.prototypes(f_s, y, f_q)
        predicted = coarse.argmax(1, keepdim=True).float()
        assert 0 < predicted.mean() < 1
        aligned = network.prototypes(f_q[:, None], predicted, f_s[0])
        for ours, theirs in zip(network(query, support, mask), (coarse, aligned)):
            torch.testing.assert_close(ours, F.interpolate(theirs, size=SIZE, mode="bilinear"))


def test_in_training_windows_are_wider_than_in_evaluation():
    network = network_of("ALPNet")
    network.prototypes = LocalPrototypes(4, 2)
    batch = episode_of(network)
    network.backbone.norm.eval()
    training = network(*batch)[0]
    network.prototypes.training_window = 2
    assert not torch.allclose(training, network(*batch)[0])
    small = network(*batch)[0]
    network.eval()
    torch.testing.assert_close(network(*batch)[0], small)


@pytest.mark.parametrize("method", ["PANet", "ALPNet"])
def test_with_ideal_features_a_support_finds_itself_and_every_label_its_own(method):
    size = (256, 256)
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    labels = torch.zeros(size)
    for value, (row, column, radius) in enumerate([(80, 90, 50), (180, 60, 36), (170, 180, 60)], 1):
        labels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = value
    network = network_of(method, IdealBackbone(), labels=3, chunks=2, size=size)
    for value in (1, 2, 3):
        network.set_support(value - 1, 1, 0, labels[None], labels == value)
    network.eval()
    found = network(labels[None, None]).argmax(1)[0]
    for value in (1, 2, 3):
        assert dice(found == value, labels == value) >= 0.95
    mask = (labels == 1).to(torch.uint8)[None, None]
    scores, alignment = network(labels[None, None], labels[None, None, None], mask)
    for answer in (scores, alignment):
        assert dice(answer.argmax(1)[0] == 1, labels == 1) >= 0.95


@pytest.mark.parametrize("method", METHODS)
def test_episodes_of_one_pair_share_its_pass_and_are_what_they_are_alone(method):
    network = network_of(method)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()  # in training it norms by all that are together
    query, support, _ = episode_of(network, batch=2, shots=2)
    masks = torch.stack([torch.stack([block_mask(8 * n, 8 * s) for s in range(2)]) for n in range(5)])
    pair = torch.tensor([0, 1, 1, 0, 1])
    before = network.backbone.images
    together = network(query, support, masks, pair)
    assert network.backbone.images == before + 2 * (1 + 2)
    for n, of in enumerate(pair):
        alone = network(query[of : of + 1], support[of : of + 1], masks[n : n + 1])
        torch.testing.assert_close(together[0][n : n + 1], alone[0])
        torch.testing.assert_close(together[1][2 * n : 2 * n + 2], alone[1])


def test_a_frame_of_zeros_is_seen_as_background():
    """As if the slice went on as dark as it is at its darkest; also around the support."""
    network = network_of(labels=1, chunks=1, size=(96, 96))
    former = copy.deepcopy(network)
    former.padded_by_background = False
    image, framed, dark = torch.randn(1, 64, 80), torch.zeros(1, 96, 96), torch.zeros(1, 96, 96)
    dark += image.min()
    for padded in (framed, dark):
        padded[:, 20:84, 8:88] = image
    answers = []
    for one, x in ((network, framed), (network, dark), (former, framed), (former, dark)):
        one.set_support(0, 0, 0, x, block_mask(32, 24, size=(96, 96)))
        answers.append(one.eval()(x[None]))
    assert torch.equal(answers[0], answers[1]) and torch.equal(answers[1], answers[3])
    assert not torch.equal(answers[2], answers[3])


def test_permuted_labels_permute_the_logits():
    network = filled(network_of(labels=3)).eval()
    other = copy.deepcopy(network)
    order = torch.tensor([2, 0, 1])
    for buffer in (other.support.images, other.support.masks, other.support.exists, other.support.positions):
        buffer.copy_(buffer[order].clone())
    x = query_of(network)
    torch.testing.assert_close(other(x)[:, 1:], network(x)[:, 1:][:, order])


def test_the_best_chunk_of_a_label_answers():
    network = filled(network_of(labels=2, chunks=3)).eval()
    x = query_of(network)
    each = torch.stack([network.segment(x, chunk) for chunk in range(3)])
    torch.testing.assert_close(network(x), each.amax(0))
    assert len({each[chunk].sum().item() for chunk in range(3)}) == 3


def test_every_sample_may_ask_for_a_chunk_of_its_own():
    network = filled(network_of(chunks=3)).eval()
    x = query_of(network, 3)
    together = network.segment(x, torch.tensor([2, 0, 1]))
    alone = torch.cat([network.segment(x[i : i + 1], chunk) for i, chunk in enumerate((2, 0, 1))])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("present, nearest", [([0], [0] * 5), ([1, 3], [1, 1, 1, 3, 3]), ([4, 2], [2, 2, 2, 2, 4])])
def test_for_a_chunk_without_support_the_nearest_answers(present, nearest):
    network = filled(network_of(labels=1, chunks=5), places=[(0, chunk, 0) for chunk in present]).eval()
    x = query_of(network, 1)
    for chunk, expected in enumerate(nearest):
        assert torch.equal(network.segment(x, chunk), network.segment(x, expected))


def test_the_chunk_with_the_nearest_slice_answers_for_a_position():
    """For every label by its own slices, and for every sample by its own position."""
    network = network_of(labels=2, chunks=3, shots=2)
    for label, positions in enumerate([{(0, 0): 0.1, (0, 1): 0.6, (2, 0): 0.9}, {(1, 1): 0.8}]):
        for (chunk, shot), position in positions.items():
            network.set_support(label, chunk, shot, torch.randn(1, *SIZE), block_mask(8, 8 * chunk), position)
    network.eval()
    x, wanted = query_of(network, 4), torch.tensor([0.3, 0.7, 0.75, 1.0])
    logits = network.segment(x, position=wanted)
    for sample, chunk in enumerate([0, 0, 0, 2]):  # 0.75 is as near to 0.6 as to 0.9
        image = x[sample : sample + 1]
        torch.testing.assert_close(logits[sample, 1:2], network.margins(image, 0, chunk)[0])
        torch.testing.assert_close(logits[sample, 2:3], network.margins(image, 1, 1)[0])
        torch.testing.assert_close(network.segment(image, position=wanted[sample].item()), logits[sample : sample + 1])


def test_a_slice_without_a_position_lies_in_the_middle_of_its_chunk():
    network = filled(network_of(chunks=3)).eval()
    torch.testing.assert_close(network.support.positions[0, :, 0], torch.tensor([1 / 6, 1 / 2, 5 / 6]))
    x = query_of(network)
    assert torch.equal(network.segment(x, position=0.55), network.segment(x, 1))


def test_a_chunk_of_its_own_may_answer_for_a_label_or_none():
    network = filled(network_of(labels=3, chunks=3)).eval()
    x = query_of(network)
    for others in ({}, {"chunk": 1}, {"position": 0.9}):
        plain, logits = network.segment(x, **others), network.segment(x, **others, of_label={0: 2, 2: None})
        torch.testing.assert_close(logits[:, 1:2], network.margins(x, 0, 2))
        assert torch.equal(logits[:, 2], plain[:, 2]) and (logits[:, 3] == -40).all()


def test_one_label_alone_has_the_margins_that_it_has_among_others():
    network = filled(network_of(labels=3)).eval()
    x = query_of(network)
    together = torch.cat([network.margins(x, label) for label in range(3)], 1)
    torch.testing.assert_close(together, network(x)[:, 1:])


def test_a_label_without_support_never_wins_and_changes_no_other():
    network = filled(network_of(labels=3), places=[(0, 1, 0), (2, 0, 0)]).eval()
    x = query_of(network)
    logits = network(x)
    assert (logits[:, 2] == -40).all() and (logits.argmax(1) != 2).all()
    assert (network.segment(x, 1)[:, 2] == -40).all()
    two = filled(network_of(labels=2, backbone=network.backbone), places=[(0, 1, 0)]).eval()
    two.cross_reference = network.cross_reference
    torch.testing.assert_close(two(x)[:, 1], logits[:, 1])
    assert (network_of().eval()(x)[:, 1:] == -40).all()


def test_regions_have_no_logit_of_the_background():
    network = filled(network_of(background=False)).eval()
    with_background = copy.deepcopy(network)
    with_background.background = True
    x = query_of(network)
    torch.testing.assert_close(network(x), with_background(x)[:, 1:])
    assert network(x).shape == (2, 2, *SIZE)


def test_several_shots_are_used_and_missing_ones_are_not():
    one, three = filled(network_of(labels=1, shots=1)), filled(network_of(labels=1, shots=3), places=[(0, 0, 1)])
    three.backbone, three.cross_reference = one.backbone, one.cross_reference
    for buffer in (one.support.images, one.support.masks, one.support.exists):
        buffer[:, 1:] = 0
    one.support.images[0, 0, 0] = three.support.images[0, 0, 1]
    one.support.masks[0, 0, 0] = three.support.masks[0, 0, 1]
    one.eval(), three.eval()
    x = query_of(one)
    torch.testing.assert_close(three(x), one(x))
    three.set_support(0, 0, 2, torch.randn(1, *SIZE), block_mask(30, 30))
    assert not torch.allclose(three(x), one(x))


def test_a_mask_that_falls_between_the_sampled_pixels_still_answers():
    network = network_of("ALPNet", labels=1)
    network.set_support(0, 0, 0, torch.randn(1, *SIZE), block_mask(17, 9, 2, 2))
    assert network.eval()(query_of(network))[:, 1].min() > -40


@pytest.mark.parametrize("winner, score", [("background", -1.0), ("foreground", 1.0)])
def test_where_one_class_is_predicted_alone_there_is_nothing_to_align(winner, score):
    class Decided(nn.Module):
        def forward(self, support, mask, query, exists=None, pair=None):
            return torch.stack((query.sum(1), query.sum(1) + score), 1)

    network = network_of("ALPNet")
    network.prototypes = Decided()
    scores, alignment = network(*episode_of(network))
    assert (scores.argmax(1) == (winner == "foreground")).all() and (alignment == 0).all()
    alignment.sum().backward()
    assert all(p.grad is None or (p.grad == 0).all() for p in network.parameters())


@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_gets_a_finite_gradient(method):
    network = network_of(method)
    scores, alignment = network(*episode_of(network))
    (scores.square().mean() + alignment.square().mean()).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


def test_a_state_dict_takes_the_support_along(tmp_path):
    network, other = filled(network_of(shots=2), places=[(0, 0, 0), (1, 2, 1)]).eval(), network_of(shots=2).eval()
    x = query_of(network)
    before = other(x)
    torch.save(network.state_dict(), tmp_path / "state.pth")
    other.load_state_dict(torch.load(tmp_path / "state.pth"))
    assert torch.equal(other(x), network(x)) and not torch.equal(other(x), before)
    assert network_of(shots=2).state_dict().keys() == network.state_dict().keys()
    assert {key for key in network.state_dict() if key.startswith("support")} == {
        "support.seg_layers.images",
        "support.seg_layers.masks",
        "support.seg_layers.exists",
        "support.seg_layers.positions",
    }


@pytest.mark.parametrize("method", METHODS)
def test_a_training_step_in_bfloat16(method):
    network = network_of(method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, alignment = network(*episode_of(network))
    assert scores.dtype == alignment.dtype == torch.float32
    (scores.square().mean() + alignment.square().mean()).backward()
    for tensor in (scores, alignment, *(p.grad for p in network.parameters())):
        assert torch.isfinite(tensor).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=pytest.mark.slow if method != "CRTPNet" else ()) for method in METHODS]
)
def test_an_episode_compiles_without_a_graph_break(method):
    torch._dynamo.reset()
    network = network_of(method)
    batch = episode_of(network)
    expected = copy.deepcopy(network)(*batch)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    answers = compiled(*batch)
    for ours, theirs in zip(answers, expected):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    sum(answer.square().mean() for answer in answers).backward()
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize(
    "place, image, mask, message",
    [
        ((2, 0, 0), torch.zeros(1, *SIZE), block_mask(0, 0), "no label 2: it takes 0 to 1"),
        ((0, 3, 0), torch.zeros(1, *SIZE), block_mask(0, 0), "no chunk 3: it takes 0 to 2"),
        ((0, 0, -1), torch.zeros(1, *SIZE), block_mask(0, 0), "no shot -1: it takes 0 to 0"),
        ((0, 1, 0), torch.zeros(2, *SIZE), block_mask(0, 0), r"label 0, chunk 1, shot 0 has an image .* \[2, 64, 64\]"),
        ((0, 0, 0), torch.zeros(1, *SIZE), torch.ones(3, 3), r"a mask of the shape \[3, 3\]: .* \[64, 64\]"),
        ((0, 0, 0), torch.full((1, *SIZE), float("nan")), block_mask(0, 0), "NaN or infinite pixels"),
        ((0, 0, 0), torch.zeros(1, *SIZE), torch.zeros(SIZE), "an empty mask"),
    ],
)
def test_a_wrong_support_is_a_sentence_and_changes_nothing(place, image, mask, message):
    network = network_of()
    with pytest.raises(XModalError, match=message):
        network.set_support(*place, image, mask)
    assert not network.support.exists.any()


def test_a_wrong_slice_is_a_sentence():
    network = filled(network_of()).eval()
    for x, message in [
        (torch.randn(1, 2, *SIZE), "trained on 1 input channels but got 2"),
        (torch.randn(1, 1, 64, 72), r"made for slices of \[64, 64\] and got \[64, 72\]"),
        (torch.full((1, 1, *SIZE), float("inf")), "NaN or infinite"),
    ]:
        with pytest.raises(XModalError, match=message):
            network(x)


def test_feature_map_size_is_that_of_one_support_and_one_query(count_conv_outputs):
    network = network_of(backbone=ResNetBackbone("resnet18", features=8)).eval()
    query, support, mask = episode_of(network, batch=1, shots=1)

    class OneByOne(nn.Module):
        def forward(self, x):
            images = [network.backbone(image) for image in (support[0], x)]
            return network.cross_reference(images[0][None], images[1], mask[..., ::8, ::8])

    one_by_one = OneByOne()
    one_by_one.network = network
    assert network.compute_conv_feature_map_size([64, 64]) == count_conv_outputs(one_by_one, query)
