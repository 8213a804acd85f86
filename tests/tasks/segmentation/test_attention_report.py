import pytest
import torch
from torch import nn

from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.tasks.segmentation.attention_report import (
    WeighedLosses,
    distillation_report,
    effective_support,
    symmetric_kl_of_tiles,
)


def test_support_of_a_uniform_map_is_one_and_of_a_single_position_one_over_n():
    uniform = torch.zeros(2, 4, 5).flatten(1).log_softmax(1).view(2, 4, 5)
    torch.testing.assert_close(effective_support(uniform), torch.ones(2))
    one_hot = torch.full((1, 4, 5), -1e4)
    one_hot[0, 2, 2] = 0
    torch.testing.assert_close(effective_support(one_hot), torch.tensor([1 / 20]))


class Network(nn.Module):
    """Two streams of two levels, a head on the first."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.streams = nn.ModuleList(nn.Conv2d(1, 3, 3, padding=1) for _ in range(2))
        self.encoder.reduction = nn.Conv2d(3, 3, 1)  # shared, and so not of the streams
        self.encoder.stream_features = self.stream_features
        self.head = nn.Conv2d(3, 1, 1)

    def stream_features(self, x):
        fine = [conv(x[:, [k]]) for k, conv in enumerate(self.encoder.streams)]
        return [[f, nn.functional.avg_pool2d(f, 2)] for f in fine]

    def forward(self, x):
        return self.head(self.encoder.reduction(self.stream_features(x)[0][0]))


@pytest.fixture
def paths():
    return DistillationPaths("ILC", AttentionMapGenerationBlock())


def report_of(network, paths, data, target, foreground=None):
    foreground = torch.ones(len(data), 8, 8, dtype=torch.bool) if foreground is None else foreground
    losses = WeighedLosses(nn.functional.mse_loss, paths, AttentionDistillationLoss(), alpha=0.5)
    return distillation_report(network, losses, data, target, foreground)


def test_the_ratio_is_that_of_the_gradient_norms_of_the_streams_alone(paths):
    network, data, target = Network(), torch.randn(1, 2, 8, 8), torch.randn(1, 1, 8, 8)
    report = report_of(network, paths, data, target)

    def norm(loss):
        network.zero_grad()
        loss.backward()
        gradients = [p.grad.flatten() for p in network.encoder.streams.parameters() if p.grad is not None]
        return torch.cat(gradients).norm()

    loss = nn.functional.mse_loss(network(data), target)
    distillation = 0.5 * AttentionDistillationLoss()(paths(network.stream_features(data)))
    assert report["segmentation_loss"] == pytest.approx(loss.item())
    assert report["alpha_L_CSAD"] == pytest.approx(distillation.item())
    assert report["gradient_ratio"] == pytest.approx((norm(distillation) / norm(loss)).item(), rel=1e-4)


def test_the_medians_of_samples_that_are_measured_alone(paths):
    network, data, target = Network(), torch.randn(3, 2, 8, 8), torch.randn(3, 1, 8, 8)
    report = report_of(network, paths, data, target)
    alone = [report_of(network, paths, data[[n]], target[[n]]) for n in range(3)]
    assert report["samples"] == 3
    for key in ("segmentation_loss", "alpha_L_CSAD", "gradient_ratio", "symmetric_kl", "correlation"):
        assert report[key] == pytest.approx(sorted(sample[key] for sample in alone)[1]), key
    for key in ("effective_support", "foreground_mass"):
        expected = torch.tensor([sample[key] for sample in alone]).median(0).values
        torch.testing.assert_close(torch.tensor(report[key]), expected)
    peaks = torch.tensor([sample["peaks_in_a_corner"] for sample in alone])
    torch.testing.assert_close(torch.tensor(report["peaks_in_a_corner"]), peaks.mean(0))


def test_samples_without_foreground_do_not_count_for_its_mass(paths):
    network, data, target = Network(), torch.randn(2, 2, 8, 8), torch.randn(2, 1, 8, 8)
    foreground = torch.zeros(2, 8, 8, dtype=torch.bool)
    assert report_of(network, paths, data, target, foreground)["foreground_mass"] is None
    foreground[0, 2:4, 2:6] = True
    with_one = report_of(network, paths, data, target, foreground)["foreground_mass"]
    assert with_one == report_of(network, paths, data[:1], target[:1], foreground[:1])["foreground_mass"]


def test_the_correlation_is_of_the_sums_of_squares_whatever_the_reading():
    network, data, target = Network(), torch.randn(1, 2, 8, 8), torch.randn(1, 1, 8, 8)
    readings = [DistillationPaths("ILC", AttentionMapGenerationBlock(n)) for n in ("sum", "mean", "std")]
    reports = [report_of(network, reading, data, target) for reading in readings]
    assert reports[0]["correlation"] == reports[1]["correlation"] == reports[2]["correlation"]
    assert reports[0]["effective_support"] != reports[1]["effective_support"]
    (k0, k1), (o0, o1) = network.stream_features(data)
    r = []
    for shallow, deep in ((k0, o1), (o0, k1)):
        deep = nn.functional.interpolate(deep, (8, 8), mode="bilinear").square().sum(1).flatten()
        r.append(torch.corrcoef(torch.stack([shallow.square().sum(1).flatten(), deep]))[0, 1].item())
    assert reports[0]["correlation"] == pytest.approx(sum(r) / 2, rel=1e-4)


def test_the_support_of_scff_is_reported_where_there_is_one(paths):
    network, data, target = Network(), torch.randn(1, 2, 8, 8), torch.randn(1, 1, 8, 8)
    assert report_of(network, paths, data, target)["scff_support"] is None
    network.encoder.fusion = SpatialCorrelatedFeatureFusion(nn.Conv2d, 3)
    nn.init.zeros_(network.encoder.fusion.general.weight)
    assert report_of(network, paths, data, target)["scff_support"] == pytest.approx(1)


def test_streams_that_see_the_same_agree_on_the_same_level():
    network = Network()
    network.encoder.streams[1].load_state_dict(network.encoder.streams[0].state_dict())
    tile = torch.randn(1, 1, 8, 8).expand(1, 2, 8, 8)
    same_level = DistillationPaths("PLC", AttentionMapGenerationBlock())
    assert symmetric_kl_of_tiles(network, same_level, [tile]) == pytest.approx(0, abs=1e-6)
    assert symmetric_kl_of_tiles(network, same_level, [torch.randn(1, 2, 8, 8)]) > 0
