"""The network of correspondences: matches of descriptors that are known, and what every network must do."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.networks.attention_reg import SMALLEST_GRID
from nnunet_xmodal.networks.correspondence_reg import CorrespondenceReg

GRID = (12, 32, 32)
SPACING = torch.tensor([6.0, 2.4, 2.2])


class Known(nn.Module):
    """An extractor whose descriptors are smooth functions of where a point lies in the other image."""

    def __init__(self, network: CorrespondenceReg, matrix: torch.Tensor):
        super().__init__()
        axes = [torch.arange(n) * (side // n) - (side - 1) / 2 for n, side in zip(network.lattice, network.grid)]
        points = (torch.cartesian_prod(*axes) * SPACING).flip(-1)
        points = rigid_transform.apply(rigid_transform.inverse(matrix), points)
        generator = torch.Generator().manual_seed(0)
        waves = points @ (0.12 * torch.randn(3, 8, generator=generator))
        self.descriptors = F.normalize(torch.cat((waves.sin(), waves.cos()), -1), dim=-1).mT.view(16, *network.lattice)

    def forward(self, image):
        return self.descriptors.expand(len(image), *self.descriptors.shape)


def network_that_matches(matrix):
    network = CorrespondenceReg(GRID).eval()
    network.fixed_features, network.moving_features = Known(network, torch.eye(4)), Known(network, matrix)
    with torch.no_grad():
        network.log_alpha.fill_(4.0)
        network.log_ridge.fill_(-12.0)
    return network


@pytest.mark.parametrize("numbers", [[8.0, -6, 5, 0, 0, 0], [0.0, 0, 0, 0, 0, 12], [5.0, 4, -6, 8, -6, 10]], ids=str)
def test_what_is_moved_by_a_transform_is_moved_back(numbers):
    """Moving by M(p), the network's M(output) shall be M(p)⁻¹."""
    moved = rigid_transform.matrix(torch.tensor(numbers))
    output = network_that_matches(moved)(torch.rand(1, 2, *GRID), SPACING)
    left = rigid_transform.matrix(output)[0] @ moved
    points = 20 * torch.cat((torch.eye(3), -torch.eye(3)))
    before, after = ((rigid_transform.apply(m, points) - points).norm(dim=-1).mean() for m in (moved, left))
    assert after < 0.25 * before


def test_a_shift_is_in_the_millimetres_of_the_spacing():
    x = torch.rand(2, 2, *GRID)
    network = CorrespondenceReg(GRID).eval()
    points, _, _ = network.matches(x, SPACING)
    doubled, *_ = network.matches(x, 2 * SPACING)
    torch.testing.assert_close(doubled, 2 * points)


def test_points_lie_where_their_descriptors_were_computed():
    """A stride of two with a kernel of three centres position k on voxel 2k."""
    network = CorrespondenceReg(GRID)
    z, y, x = (side.unique() for side in network.points.T)
    assert network.lattice == [12, 16, 16] and network.size == [len(z), len(y), len(x)]
    assert z.tolist() == [k - 5.5 for k in range(2, 10)]
    assert y.tolist() == x.tolist() == [2 * k - 15.5 for k in range(2, 14, 2)]


@pytest.mark.parametrize("grid", [(5, 13, 18), SMALLEST_GRID], ids=str)
def test_similarities_are_those_of_a_loop_over_points_and_shifts(grid):
    network = CorrespondenceReg(grid)
    (d, h, w), (rz, ry, rx), points = network.lattice, network.reach, len(network.at)
    fixed, moving = torch.randn(2, 16, points), torch.randn(2, 16, d, h, w)
    found = network.similarity(fixed, F.pad(moving, (rx, rx, ry, ry, rz, rz)))
    shifts = torch.cartesian_prod(*[torch.arange(-r, r + 1) for r in network.reach])
    for n, at in enumerate(network.at.tolist()):
        for k, shift in enumerate(shifts):
            z, y, x = (torch.tensor([at // (h * w), at // w % h, at % w]) + shift).tolist()
            inside = 0 <= z < d and 0 <= y < h and 0 <= x < w
            expected = (fixed[:, :, n] * moving[:, :, z, y, x]).sum(1) if inside else torch.zeros(2)
            torch.testing.assert_close(found[:, n, k], expected, rtol=1e-4, atol=1e-5)


def test_means_over_neighbours_are_those_of_pooling():
    network = CorrespondenceReg(GRID)
    values = torch.randn(2, len(network.at), 3)
    pooled = F.avg_pool3d(values.mT.unflatten(2, network.size), 3, 1, 1, count_include_pad=False)
    torch.testing.assert_close(network.mean_over_neighbours @ values, pooled.flatten(2).mT)


@pytest.mark.parametrize("grid", [SMALLEST_GRID, (8, 16, 16), (5, 13, 18), (16, 48, 48), (32, 40, 32)], ids=str)
def test_six_numbers_on_any_grid_from_a_lattice_that_is_no_finer_than_sixteen(grid):
    network = CorrespondenceReg(grid)
    assert max(network.lattice) <= 16 and network(torch.rand(2, 2, *grid), SPACING).shape == (2, 6)


def test_every_parameter_gets_a_gradient():
    network = CorrespondenceReg((8, 16, 16))
    network(torch.rand(3, 2, 8, 16, 16), SPACING).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_it_pickles_and_its_weights_travel():
    network, x = CorrespondenceReg((8, 16, 16)).eval(), torch.rand(2, 2, 8, 16, 16)
    other = CorrespondenceReg((8, 16, 16)).eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x, SPACING), network(x, SPACING))
    assert torch.equal(pickle.loads(pickle.dumps(network))(x, SPACING), network(x, SPACING))


def test_autocast_in_bfloat16():
    network, x = CorrespondenceReg((8, 16, 16)), torch.rand(2, 2, 8, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x, SPACING)
        out.square().sum().backward()
    assert out.dtype == torch.float32 and torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_feature_map_size_is_what_convolutions_put_out_and_the_similarities(count_conv_outputs):
    for grid in ((8, 16, 16), (16, 48, 48)):
        network = CorrespondenceReg(grid)
        counted = count_conv_outputs(network, torch.rand(2, 2, *grid))
        confidence, similarities = len(network.at), len(network.at) * len(network.shifts)
        assert network.compute_conv_feature_map_size(list(grid)) == counted - confidence + similarities


@pytest.mark.slow
def test_it_compiles_without_a_graph_break():
    torch._dynamo.reset()
    network = CorrespondenceReg((8, 16, 16)).eval()
    x = torch.rand(2, 2, 8, 16, 16)
    compiled = torch.compile(copy.deepcopy(network), fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, SPACING), network(x, SPACING), rtol=1e-4, atol=1e-4)


def test_it_is_built_without_memory_as_costs_are_counted():
    with torch.device("meta"):
        network = CorrespondenceReg(GRID)
        assert network(torch.empty(1, 2, *GRID)).shape == (1, 6)
    assert {p.device.type for p in network.parameters()} == {"meta"}
