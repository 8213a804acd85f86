import pytest
import torch
from torch import nn

from nnunet_xmodal.evaluation.attention_report import distillation_report, effective_support, symmetric_kl_of_tiles
from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths


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
        self.encoder = nn.ModuleList(nn.Conv2d(1, 3, 3, padding=1) for _ in range(2))
        self.encoder.stream_features = self.stream_features
        self.head = nn.Conv2d(3, 1, 1)

    def stream_features(self, x):
        fine = [conv(x[:, [k]]) for k, conv in enumerate(self.encoder)]
        return [[f, nn.functional.avg_pool2d(f, 2)] for f in fine]

    def forward(self, x):
        return self.head(self.stream_features(x)[0][0])


@pytest.fixture
def paths():
    return DistillationPaths("ILC", AttentionMapGenerationBlock())


def test_the_ratio_is_that_of_the_encoders_gradient_norms(paths):
    network, data, target = Network(), torch.randn(1, 2, 8, 8), torch.randn(1, 1, 8, 8)
    report = distillation_report(network, nn.functional.mse_loss, paths, 0.5, data, target)

    def norm(loss):
        network.zero_grad()
        loss.backward()
        gradients = [p.grad.flatten() for p in network.encoder.parameters() if p.grad is not None]
        return torch.cat(gradients).norm()

    loss = nn.functional.mse_loss(network(data), target)
    distillation = 0.5 * AttentionDistillationLoss()(paths(network.stream_features(data)))
    assert report["segmentation_loss"] == pytest.approx(loss.item())
    assert report["alpha_L_CSAD"] == pytest.approx(distillation.item())
    assert report["gradient_ratio"] == pytest.approx((norm(distillation) / norm(loss)).item(), rel=1e-4)


def test_streams_that_see_the_same_agree_on_the_same_level():
    network = Network()
    network.encoder[1].load_state_dict(network.encoder[0].state_dict())
    tile = torch.randn(1, 1, 8, 8).expand(1, 2, 8, 8)
    same_level = DistillationPaths("PLC", AttentionMapGenerationBlock())
    assert symmetric_kl_of_tiles(network, same_level, [tile]) == pytest.approx(0, abs=1e-6)
    assert symmetric_kl_of_tiles(network, same_level, [torch.randn(1, 2, 8, 8)]) > 0
