import math
from itertools import permutations, product

import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.blocks.spatial_correlation import (
    SpatialCorrelatedFeatureFusion,
    project,
    spatial_correlation,
)

READINGS = ["dual", "row", "all"]
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def scff_by_loops(general, reading, present=None):
    """Eq. 5–7 for one sample: S × `(C̃, N)` → `(S(S−1)·C̃, N)`; where y is absent, x is seen from itself."""
    fused = []
    for k, other in permutations(range(len(general)), 2):
        x, y = general[k], general[other]
        width, n = x.shape
        if present is not None and not present[k]:
            fused += [[0.0] * n] * width
            continue
        y = y if present is None or present[other] else x
        z = [[sum(float(x[c, i]) * float(y[c, j]) for c in range(width)) / width for j in range(n)] for i in range(n)]
        e = [[math.exp(value) for value in row] for row in z]
        total = {
            "dual": lambda i, j, e=e: sum(row[j] for row in e),
            "row": lambda i, j, e=e: sum(e[i]),
            "all": lambda i, j, e=e: sum(map(sum, e)),
        }[reading]
        weights = [[e[i][j] / total(i, j) for j in range(n)] for i in range(n)]
        for c in range(width):
            fused.append([sum(float(x[c, i]) * weights[i][j] for i in range(n)) for j in range(n)])
    return torch.tensor(fused, dtype=torch.float64)


@pytest.mark.parametrize("n_streams", [2, 3])
@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("spatial", [(5,), (2, 3), (2, 1, 3)])
def test_agrees_with_loops(spatial, reading, n_streams):
    block = SpatialCorrelatedFeatureFusion(CONVOLUTIONS[len(spatial)], 4, n_streams, softmax=reading).double()
    streams = [torch.randn(2, 4, *spatial, dtype=torch.float64) for _ in range(n_streams)]
    general = [block.general(stream).flatten(2).detach() for stream in streams]
    expected = torch.stack([scff_by_loops([g[sample] for g in general], reading) for sample in range(2)])
    expected = block.out(expected.view(2, -1, *spatial))
    torch.testing.assert_close(block(streams), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("reading", READINGS)
def test_agrees_with_loops_where_streams_are_absent(reading):
    block = SpatialCorrelatedFeatureFusion(nn.Conv2d, 4, 3, softmax=reading).double()
    present = [subset for subset in product((True, False), repeat=3) if any(subset)]
    streams = [torch.randn(len(present), 4, 2, 3, dtype=torch.float64) for _ in range(3)]
    general = [block.general(stream).flatten(2).detach() for stream in streams]
    expected = [scff_by_loops([g[n] for g in general], reading, subset) for n, subset in enumerate(present)]
    expected = block.out(torch.stack(expected).view(len(present), -1, 2, 3))
    torch.testing.assert_close(block(streams, torch.tensor(present)), expected, rtol=0, atol=1e-10)


def test_correlation_is_the_dot_product_over_channels_by_their_number():
    x, y = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4, dtype=torch.float64)
    expected = torch.stack([a.T @ b / 3 for a, b in zip(x, y)])
    torch.testing.assert_close(spatial_correlation(x, y), expected, rtol=0, atol=1e-12)


def test_the_square_root_of_the_channels_makes_logits_that_much_larger():
    x, y = torch.randn(2, 9, 4, dtype=torch.float64), torch.randn(2, 9, 4, dtype=torch.float64)
    torch.testing.assert_close(spatial_correlation(x, y, "sqrt"), 3 * spatial_correlation(x, y))
    printed, sharper = (
        SpatialCorrelatedFeatureFusion(nn.Conv1d, 18, correlation_scale=s) for s in ("channels", "sqrt")
    )
    sharper.load_state_dict(printed.state_dict())
    streams = [torch.randn(1, 18, 4), torch.randn(1, 18, 4)]
    general = [printed.general(stream) for stream in streams]
    seen = [project(a, 3 * spatial_correlation(a, b), "dual") for a, b in permutations(general)]
    torch.testing.assert_close(sharper(streams), torch.cat(seen, 1))


def test_support_is_one_for_a_flat_softmax_and_one_position_for_a_sharp_one():
    block = SpatialCorrelatedFeatureFusion(nn.Conv1d, 6)
    streams = [torch.randn(2, 6, 5) for _ in range(2)]
    with torch.no_grad():
        nn.init.zeros_(block.general.weight)
        torch.testing.assert_close(block.support(streams), torch.ones(2))
        block.general.weight.normal_(std=100)
        assert (block.support(streams) < 0.3).all() and (block.support(streams) >= 0.2 - 1e-6).all()


def weights_of(reading, n=6):
    """The matrix that `project` multiplies values by, `(N, N)`."""
    return project(torch.eye(n)[None], torch.randn(1, n, n), reading)[0]


def test_dual_columns_row_rows_and_all_entries_sum_to_one():
    torch.testing.assert_close(weights_of("dual").sum(0), torch.ones(6))
    torch.testing.assert_close(weights_of("row").sum(1), torch.ones(6))
    torch.testing.assert_close(weights_of("all").sum(), torch.tensor(1.0))


def test_dual_preserves_constants_the_other_readings_do_not():
    constant, correlation = torch.full((1, 2, 6), 3.0), torch.randn(1, 6, 6)
    torch.testing.assert_close(project(constant, correlation, "dual"), constant)
    for reading in ("row", "all"):
        assert not torch.allclose(project(constant, correlation, reading), constant, rtol=0.1)
    assert project(constant, correlation, "all").sum() == pytest.approx(2 * 3.0)  # 1/N of the constant on average


def test_dual_stays_within_the_range_of_the_values():
    values = torch.randn(2, 3, 7)
    projected = project(values, 10 * torch.randn(2, 7, 7), "dual")
    assert (projected <= values.amax(2, keepdim=True) + 1e-5).all()
    assert (projected >= values.amin(2, keepdim=True) - 1e-5).all()


def test_the_first_half_comes_from_the_first_stream():
    block = SpatialCorrelatedFeatureFusion(nn.Conv2d, 4)
    nn.init.zeros_(block.general.bias)
    fused = block([torch.randn(1, 4, 3, 3), torch.zeros(1, 4, 3, 3)])
    assert (fused[:, :2].abs() > 0).all() and (fused[:, 2:] == 0).all()


@pytest.mark.parametrize("n_streams", [2, 3, 4])
@pytest.mark.parametrize("out_channels", [None, 5])
def test_widths_and_the_shared_convolution(n_streams, out_channels):
    channels, width = 6, 3
    block = SpatialCorrelatedFeatureFusion(nn.Conv2d, channels, n_streams, out_channels)
    wanted = out_channels or channels
    assert block([torch.randn(1, channels, 2, 2)] * n_streams).shape == (1, wanted, 2, 2)
    shared = channels * width + width
    fused_width = n_streams * (n_streams - 1) * width
    last = 0 if fused_width == wanted else fused_width * wanted + wanted
    assert sum(p.numel() for p in block.parameters()) == shared + last


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("n_streams", [2, 3])
@pytest.mark.parametrize("reading", READINGS)
def test_finite_under_autocast_for_activations_of_a_thousand(reading, n_streams, dtype):
    block = SpatialCorrelatedFeatureFusion(nn.Conv2d, 8, n_streams, softmax=reading)
    streams = [1e3 * torch.rand(2, 8, 6, 6) for _ in range(n_streams)]
    with torch.autocast("cpu", dtype=dtype):
        fused = block(streams)
    assert fused.dtype == dtype
    assert torch.isfinite(fused).all()
    fused.float().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in block.parameters())


@pytest.mark.parametrize("reading", READINGS)
def test_finite_in_float16_where_all_positions_attend_to_one(reading):
    """1,024 positions of a thousand each that all weigh one place: their sum is beyond float16."""
    block = SpatialCorrelatedFeatureFusion(nn.Conv2d, 2, softmax=reading)
    nn.init.ones_(block.general.weight)
    streams = [torch.full((1, 2, 32, 32), 500.0), torch.zeros(1, 2, 32, 32)]
    streams[1][..., 0, 0] = 500
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.isfinite(block(streams)).all()


@pytest.mark.parametrize("reading", READINGS)
def test_gradient_is_exact(reading):
    block = SpatialCorrelatedFeatureFusion(nn.Conv1d, 2, n_streams=3, softmax=reading).double()
    streams = [torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *inputs: block(list(inputs)), streams)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"channels": 8, "n_streams": 1}, "SCFF fuses at least two streams, got 1"),
        ({"channels": 1}, "SCFF halves the channels of its input and needs at least 2, got 1"),
        (
            {"channels": 8, "correlation_scale": "C"},
            "correlation_scale must be one of channels, sqrt, got 'C'",
        ),
        ({"channels": 8, "softmax": "column"}, "softmax must be one of dual, row, all, got 'column'"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpatialCorrelatedFeatureFusion(nn.Conv2d, **arguments)
