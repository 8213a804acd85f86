import pytest
import torch

from nnunet_xmodal.networks.blocks.mask_guided_attention import MaskGuidedAttention, foreground_probability

SIZES = [(5,), (4, 6), (2, 4, 3)]


def features_and_logits(size, num_classes=3):
    return torch.randn(2, 4, *size), [torch.randn(2, num_classes, *size, requires_grad=True) for _ in range(2)]


def certain(labels, num_classes=3):
    """Logits that leave no doubt of a label map `(B, *spatial)`."""
    one_hot = torch.nn.functional.one_hot(labels, num_classes).movedim(-1, 1)
    return 200.0 * one_hot - 100


@pytest.mark.parametrize("size", SIZES)
def test_of_labels_the_foreground_is_whatever_is_not_background(size):
    logits = torch.randn(2, 3, *size)
    expected = 1 - logits.softmax(1)[:, :1]
    torch.testing.assert_close(foreground_probability(logits, regions=False), expected)


@pytest.mark.parametrize("size", SIZES)
def test_of_regions_the_foreground_is_the_likeliest(size):
    logits = torch.randn(2, 3, *size)
    expected = torch.stack([torch.sigmoid(logits[:, region]) for region in range(3)]).max(0).values
    torch.testing.assert_close(foreground_probability(logits, regions=True), expected.unsqueeze(1))


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_both_readings(size, regions):
    features, logits = features_and_logits(size)
    mask = (foreground_probability(logits[0], regions) + foreground_probability(logits[1], regions)) / 2
    torch.testing.assert_close(MaskGuidedAttention()(features, logits, regions), features * (1 + mask))
    torch.testing.assert_close(MaskGuidedAttention(identity=False)(features, logits, regions), features * mask)


def test_certain_masks_double_the_foreground_and_keep_the_background():
    labels = torch.tensor([[0, 1, 2, 0]])
    features = torch.randn(1, 4, 4)
    output = MaskGuidedAttention()(features, [certain(labels)] * 2, regions=False)
    assert torch.equal(output, features * torch.tensor([1, 2, 2, 1]))


def test_what_one_branch_sees_counts_half():
    seen, missed = certain(torch.tensor([[1]])), certain(torch.tensor([[0]]))
    features = torch.randn(1, 4, 1)
    assert torch.equal(MaskGuidedAttention()(features, [seen, missed], regions=False), 1.5 * features)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_one_mask_per_output(size, identity, regions):
    features, logits = features_and_logits(size)
    block = MaskGuidedAttention(identity, per_class=True)
    output = block(features, logits, regions)
    assert output.shape[1] == block.out_channels(4, 3) == 12
    first, second = (torch.sigmoid(x) if regions else x.softmax(1) for x in logits)
    for index in range(3):
        mask = (first[:, index : index + 1] + second[:, index : index + 1]) / 2 + identity
        torch.testing.assert_close(output[:, 4 * index : 4 * index + 4], features * mask)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("detach", [False, True])
def test_gradients_reach_the_branches_unless_detached(per_class, detach):
    features, logits = features_and_logits((4, 6))
    block = MaskGuidedAttention(per_class=per_class, detach=detach)
    block(features.requires_grad_(), logits, regions=False).square().sum().backward()
    assert features.grad.abs().sum() > 0
    for branch in logits:
        assert branch.grad is None if detach else branch.grad.abs().sum() > 0


def test_the_precision_of_the_features_is_kept():
    features, logits = features_and_logits((4, 6))
    assert MaskGuidedAttention()(features.bfloat16(), logits, regions=False).dtype == torch.bfloat16


def test_no_parameters():
    assert not MaskGuidedAttention().state_dict()
