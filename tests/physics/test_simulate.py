import math

import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.simulate import block_means, field_noise, local_field, measured_field, with_noise

GRID = {"spacing": (2.0, 1.0, 1.0), "direction": (0.6, 0.0, 0.8)}


def head(*size):
    mask = torch.zeros(1, 1, *size, dtype=torch.bool)
    mask[..., 1:-1, 1:-1, 1:-1] = True
    return torch.randn(1, 1, *size), mask


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_the_local_field_is_that_of_sources_inside_the_mask_and_0_outside():
    susceptibility, mask = head(6, 8, 8)
    field = local_field(susceptibility, mask, **GRID)
    torch.testing.assert_close(field[mask], dipole.forward(susceptibility * mask, **GRID)[mask])
    assert (field[~mask] == 0).all()
    outside = torch.where(mask, susceptibility, 1e3)
    assert torch.equal(local_field(outside, mask, **GRID), field)


def test_noise_has_its_standard_deviation_and_its_seed():
    susceptibility, mask = head(24, 24, 24)
    exact = local_field(susceptibility, mask, **GRID)
    noisy = measured_field(susceptibility, mask, **GRID, noise=0.01, generator=seeded(1))
    assert (noisy - exact)[mask].std() == pytest.approx(0.01, rel=0.03)
    assert (noisy - exact)[mask].mean() == pytest.approx(0, abs=5e-4) and (noisy[~mask] == 0).all()
    assert torch.equal(measured_field(susceptibility, mask, **GRID, noise=0.01, generator=seeded(1)), noisy)
    assert not torch.equal(measured_field(susceptibility, mask, **GRID, noise=0.01, generator=seeded(2)), noisy)


def test_noise_may_differ_from_voxel_to_voxel():
    level = torch.cat((torch.zeros(1, 1, 10, 40, 40), torch.full((1, 1, 10, 40, 40), 0.1)), 2)
    noisy = with_noise(torch.zeros(1, 1, 20, 40, 40), level, seeded(0))
    assert (noisy[:, :, :10] == 0).all() and noisy[:, :, 10:].std() == pytest.approx(0.1, rel=0.03)


def test_noise_of_the_phase_is_one_over_snr():
    """Against the phase of complex numbers with noise, at SNR 20."""
    expected = 1 / 20 / (2 * math.pi * 42.577478518 * 3 * 0.02)
    assert field_noise(20, b0=3.0, echo_time=0.02) == pytest.approx(expected)
    signal = torch.complex(1 + torch.randn(10**5) / 20, torch.randn(10**5) / 20)
    assert signal.angle().std() / (2 * math.pi * 42.577478518 * 3 * 0.02) == pytest.approx(expected, rel=0.02)


def test_noise_of_the_phase_where_there_is_no_signal():
    magnitude = torch.tensor([0.0, 0.5, 1.0])
    found = field_noise(20, 3.0, 0.02, magnitude)
    uniform = field_noise(20, 3.0, 0.02, 0.0)
    assert found.tolist() == pytest.approx([uniform, 2 * found[2].item(), field_noise(20, 3.0, 0.02)])
    assert uniform == pytest.approx(math.pi / math.sqrt(3) / (2 * math.pi * 42.577478518 * 3 * 0.02))


@pytest.mark.parametrize("snr", [0, -1.0, math.nan])
def test_a_faulty_snr_is_a_sentence(snr):
    with pytest.raises(XModalError, match=f"must be a positive number, and is {snr}"):
        field_noise(snr, 3.0, 0.02)


def test_block_means():
    volume = torch.arange(16.0).view(1, 1, 4, 2, 2)
    assert block_means(volume, 2).flatten().tolist() == [3.5, 11.5]
    with pytest.raises(XModalError, match=r"\[4, 2, 2\] voxels has no blocks of 4"):
        block_means(volume, 4)
