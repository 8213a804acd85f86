import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from nnunet_xmodal.trainers.base.schedule import EpochSchedule, StepSchedule, decay, one_cycle


def optimizer_of(groups: int = 1) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)], 1e-3)


def rates(max_steps: int, factor: float = 0.98) -> list[float]:
    optimizer = optimizer_of()
    scheduler = EpochSchedule(optimizer, decay(1e-3, max_steps, factor))
    result = []
    for epoch in range(max_steps):
        scheduler.step(epoch)
        result.append(optimizer.param_groups[0]["lr"])
    return result


@pytest.mark.parametrize("factor", [0.98, 0.95])
def test_in_a_hundred_epochs_it_is_the_papers_decay_per_thousand_steps(factor):
    optimizer = optimizer_of()
    theirs, expected = ExponentialLR(optimizer, factor), []
    for _ in range(100):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert rates(100, factor) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("epochs", [1, 5, 50, 1000])
def test_a_training_of_any_length_runs_through_the_same_rates(epochs):
    shares = [1e-3 * 0.98 ** (100 * epoch / epochs) for epoch in range(epochs)]
    assert rates(epochs) == pytest.approx(shares, rel=1e-12) and rates(epochs)[0] == 1e-3


def test_a_rate_follows_from_the_epoch_alone_and_is_that_of_all_groups():
    optimizer = optimizer_of(groups=2)
    scheduler = EpochSchedule(optimizer, decay(1e-3, 10, 0.5, steps=10))
    scheduler.step(7)
    assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr() == [1e-3 * 0.5**7] * 2
    scheduler.step(2)
    assert optimizer.param_groups[1]["lr"] == pytest.approx(1e-3 / 4)


def test_one_cycle_rises_to_its_largest_rate_and_falls_to_nothing():
    rate = one_cycle(2e-3, 20, rise=0.15, first=0.04)
    assert rate(0) == pytest.approx(8e-5) and rate(3) == pytest.approx(2e-3) and rate(20) == pytest.approx(0, abs=1e-12)
    assert rate(1.5) == pytest.approx((8e-5 + 2e-3) / 2) and rate(11.5) == pytest.approx(1e-3)
    walked = [rate(20 * share / 1000) for share in range(1001)]
    top = walked.index(max(walked))
    assert top == 150 and walked[:151] == sorted(walked[:151]) and walked[150:] == sorted(walked[150:], reverse=True)


def test_a_rate_of_every_step_begins_anew_with_the_epoch():
    optimizer = optimizer_of(groups=2)
    scheduler = StepSchedule(optimizer, lambda epoch: 1.0 + epoch, steps=4)
    assert scheduler.get_last_lr() == [1.0, 1.0]
    for expected in (1.25, 1.5, 1.75):
        scheduler.advance()
        assert [group["lr"] for group in optimizer.param_groups] == scheduler.get_last_lr() == [expected] * 2
    scheduler.step(7)
    assert optimizer.param_groups[0]["lr"] == 8.0
    scheduler.advance()
    assert optimizer.param_groups[0]["lr"] == 8.25
