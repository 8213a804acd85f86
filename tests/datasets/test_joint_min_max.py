import torch

from nnunet_xmodal.datasets.joint_min_max import joint_min_max, label_in_range_of


def test_both_channels_share_one_range_and_samples_do_not():
    images = torch.rand(3, 2, 4, 5, 6)
    images[:, 1] *= 0.25
    scale, shift = (
        torch.tensor([1.0, 200.0, 0.01]).view(3, 1, 1, 1, 1),
        torch.tensor([0.0, -50.0, 3.0]).view(3, 1, 1, 1, 1),
    )
    out = joint_min_max(images * scale + shift)
    assert out.amin((1, 2, 3, 4)).tolist() == [0.0] * 3 and out.amax((1, 2, 3, 4)).tolist() == [1.0] * 3
    torch.testing.assert_close(out, joint_min_max(images), atol=1e-4, rtol=0)
    assert (out[:, 1] < 0.3).all()
    torch.testing.assert_close(joint_min_max(images[1:2]), joint_min_max(images)[1:2])


def test_a_constant_sample_is_zero_and_does_not_disturb_the_others():
    images = torch.rand(2, 2, 3, 3, 3)
    images[0] = 7.0
    out = joint_min_max(images)
    assert (out[0] == 0).all() and torch.equal(out[1:], joint_min_max(images[1:]))


def test_a_label_spans_the_range_of_the_moving_image():
    moving = torch.rand(2, 1, 4, 5, 6) * 300 + 20
    label = torch.zeros(2, 1, 4, 5, 6, dtype=torch.int16)
    label[:, :, 1:3, 1:3, 1:3] = 1
    fixed = label_in_range_of(label, moving)
    assert fixed.dtype == moving.dtype
    out = joint_min_max(torch.cat([fixed, moving], 1))
    assert torch.equal(out[:, :1], label.float())
    assert torch.equal(fixed, label_in_range_of(label.bool(), moving))
    assert (label_in_range_of(label * 0, moving) == moving.amin((1, 2, 3, 4), keepdim=True)).all()
