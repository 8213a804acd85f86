import itertools

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import CheckpointError, checkpoint

from nnunet_xmodal.losses.cycle_gan import (
    DiscriminatorLoss,
    GeneratorsLoss,
    Translations,
    cycle_consistency,
    frozen,
    identity_mapping,
    real_or_generated,
    taken_for_real,
    translate_both_ways,
)
from nnunet_xmodal.networks.patch_discriminator import PatchDiscriminator


def verdicts(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def mean(values):
    values = list(values)
    return sum(values) / len(values)


class Toy(nn.Module):
    """Two generators and two discriminators of images of 8², with the second stream twice as wide."""

    def __init__(self):
        super().__init__()
        self.a_to_b, self.b_to_a = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 1, 3, padding=1)
        self.d_a, self.d_b = (PatchDiscriminator(nn.Conv2d, channels, (8, 8)) for channels in (1, 2))
        self.a, self.b = torch.randn(2, 1, 8, 8), 3 + 2 * torch.randn(2, 2, 8, 8)

    def translations(self):
        return translate_both_ways(self.a_to_b, self.b_to_a, self.a, self.b)

    def generators_loss(self, lam=10.0):
        return GeneratorsLoss(lam)(self.d_a, self.d_b, self.translations())

    def discriminators_loss(self, factor=1.0):
        t, loss = self.translations(), DiscriminatorLoss(factor)
        return loss(self.d_a, t.a, t.fake_a) + loss(self.d_b, t.b, t.fake_b)

    def parameters_of(self, *names):
        return list(itertools.chain(*(getattr(self, name).parameters() for name in names)))


GENERATORS, DISCRIMINATORS = ("a_to_b", "b_to_a"), ("d_a", "d_b")


@pytest.mark.parametrize("shape", [(1, 1, 7), (2, 1, 3, 4), (2, 1, 2, 3, 4)])
def test_adversarial_losses_are_the_printed_sums(shape):
    real, generated = verdicts(*shape), verdicts(*shape)
    expected = mean((v - 1) ** 2 for v in real.flatten().tolist()) + mean(v**2 for v in generated.flatten().tolist())
    assert real_or_generated(real, generated).item() == pytest.approx(expected, abs=1e-12)
    assert real_or_generated(real, generated, factor=0.5).item() == pytest.approx(expected / 2, abs=1e-12)
    expected = mean((v - 1) ** 2 for v in generated.flatten().tolist())
    assert taken_for_real(generated).item() == pytest.approx(expected, abs=1e-12)


def test_perfect_verdicts_cost_nothing():
    zeros, ones = torch.zeros(1, 1, 7, 7), torch.ones(1, 1, 7, 7)
    assert real_or_generated(ones, zeros) == 0 and taken_for_real(ones) == 0
    assert real_or_generated(zeros, ones) == 2 and taken_for_real(zeros) == 1


def test_translations_go_there_and_back():
    a, b = torch.randn(1, 1, 4), torch.randn(1, 1, 4)
    t = translate_both_ways(lambda x: 2 * x, lambda x: x + 1, a, b)
    expected = Translations(a, b, b + 1, 2 * a, 2 * a + 1, 2 * (b + 1))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(t, expected))


def test_cycle_consistency_is_equation_4():
    a, b, cycled_a, cycled_b = (verdicts(2, channels, 3, 4) for channels in (1, 2, 1, 2))
    t = Translations(a, b, None, None, cycled_a, cycled_b)
    expected = mean(abs(x - y) for x, y in zip(cycled_a.flatten().tolist(), a.flatten().tolist()))
    expected += mean(abs(x - y) for x, y in zip(cycled_b.flatten().tolist(), b.flatten().tolist()))
    assert cycle_consistency(t).item() == pytest.approx(expected, abs=1e-12)
    assert cycle_consistency(Translations(a, b, None, None, a, b)) == 0


@pytest.mark.parametrize("lam", [0.0, 10.0])
def test_full_objective_is_equation_6(lam):
    toy = Toy()
    t, loss = toy.translations(), toy.generators_loss(lam)
    fooled_b, fooled_a = (toy.d_b(t.fake_b) - 1).square().mean(), (toy.d_a(t.fake_a) - 1).square().mean()
    assert torch.equal(loss.a_to_b, fooled_b) and torch.equal(loss.b_to_a, fooled_a)
    torch.testing.assert_close(loss.total, fooled_b + fooled_a + lam * cycle_consistency(t))


def test_half_the_discriminators_loss_is_an_argument():
    toy = Toy()
    torch.testing.assert_close(toy.discriminators_loss(0.5), toy.discriminators_loss() / 2)


def test_the_generators_step_leaves_discriminators_untouched():
    toy = Toy()
    with frozen(toy.d_a, toy.d_b):
        toy.generators_loss().total.backward()
    assert all(p.grad is None and p.requires_grad for p in toy.parameters_of(*DISCRIMINATORS))
    ours = [p.grad for p in toy.parameters_of(*GENERATORS)]
    assert all(grad.abs().sum() > 0 for grad in ours)

    theirs = torch.autograd.grad(toy.generators_loss().total, toy.parameters_of(*GENERATORS))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs)), "freezing changed the generators' gradient"


def test_the_discriminators_step_leaves_generators_untouched():
    toy = Toy()
    toy.discriminators_loss().backward()
    assert all(p.grad is None for p in toy.parameters_of(*GENERATORS))
    assert all(p.grad.abs().sum() > 0 for p in toy.parameters_of(*DISCRIMINATORS))


@pytest.mark.parametrize("who", [GENERATORS, DISCRIMINATORS])
def test_a_step_of_each_lowers_its_own_loss(who):
    toy = Toy()
    optimiser = torch.optim.Adam(toy.parameters_of(*who), lr=1e-4)

    def loss():
        return toy.generators_loss().total if who == GENERATORS else toy.discriminators_loss()

    losses = []
    for _ in range(5):
        value = loss()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_each_makes_it_harder_for_the_other():
    """Generators that fool the discriminators raise the discriminators' loss, and the other way round."""
    toy = Toy()
    before = toy.discriminators_loss().item(), toy.generators_loss(lam=0).total.item()
    generators = torch.optim.Adam(toy.parameters_of(*GENERATORS), lr=1e-2)
    for _ in range(20):
        generators.zero_grad()
        toy.generators_loss(lam=0).total.backward()
        generators.step()
    fooled = toy.discriminators_loss().item(), toy.generators_loss(lam=0).total.item()
    assert fooled[0] > before[0] and fooled[1] < before[1]

    discriminators = torch.optim.Adam(toy.parameters_of(*DISCRIMINATORS), lr=1e-3)
    for _ in range(20):
        discriminators.zero_grad()
        toy.discriminators_loss().backward()
        discriminators.step()
    assert toy.discriminators_loss().item() < fooled[0]
    assert toy.generators_loss(lam=0).total.item() > fooled[1]


def test_frozen_gives_back_what_it_found_even_after_an_error():
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[1].bias.requires_grad_(False)
    wanted = [p.requires_grad for p in network.parameters()]
    with pytest.raises(RuntimeError), frozen(network):
        assert not any(p.requires_grad for p in network.parameters())
        raise RuntimeError
    assert [p.requires_grad for p in network.parameters()] == wanted


def test_checkpointed_activations_want_the_backward_pass_inside():
    network, x = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1)), torch.randn(3, 2, requires_grad=True)
    with frozen(network):
        checkpoint(network, x, use_reentrant=False).sum().backward()
    assert x.grad.abs().sum() > 0 and all(p.grad is None for p in network.parameters())

    with frozen(network):
        output = checkpoint(network, x, use_reentrant=False).sum()
    with pytest.raises(CheckpointError):
        output.backward()


def test_distributed_discriminators_step_again_after_they_were_frozen(tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        wrapped, x = DistributedDataParallel(nn.Linear(2, 1)), torch.randn(3, 2, requires_grad=True)
        for _ in range(3):
            with frozen(wrapped):
                taken_for_real(wrapped(x)).backward()
            assert all(p.grad is None for p in wrapped.parameters())
            real_or_generated(wrapped(x.detach()), wrapped(x.detach() + 1)).backward()
            assert all(p.grad.abs().sum() > 0 for p in wrapped.parameters())
            wrapped.zero_grad()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_finite_in_half_precision(dtype):
    high = torch.full((1, 1, 64, 64), 1000.0, dtype=dtype)
    t = Translations(high, high, None, None, -high, -high)
    for loss in (taken_for_real(high), real_or_generated(high, high), cycle_consistency(t)):
        assert loss.dtype == torch.float32 and torch.isfinite(loss)


def test_half_precision_under_autocast():
    toy = Toy()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = toy.generators_loss().total + toy.discriminators_loss()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, toy.generators_loss().total + toy.discriminators_loss(), rtol=0.05, atol=0)


def test_identity_mapping_is_zero_for_generators_that_keep_their_targets():
    a, b = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    assert identity_mapping(torch.nn.Identity(), torch.nn.Identity(), a, b) == 0
    inverted = identity_mapping(lambda x: -x, lambda x: 3 * x, a, b)
    torch.testing.assert_close(inverted, 2 * b.mean() + 2 * a.mean())
