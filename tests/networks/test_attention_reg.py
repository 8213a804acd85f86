import copy
import pickle
from functools import partial
from time import process_time

import pytest
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.attention_reg import SMALLEST_GRID, AttentionReg
from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.networks.correspondence_reg import CorrespondenceReg

PAPERS_GRID = (32, 96, 96)
GRIDS = [SMALLEST_GRID, (8, 16, 16), (5, 13, 18)]
NETWORKS = {
    "Attention-Reg": partial(AttentionReg, attention=CrossModalAttention),
    "Feature-Reg": AttentionReg,
}


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name, parameters", [("Attention-Reg", 1_248_777), ("Feature-Reg", 1_244_393)])
def test_parameters_of_the_paper(name, parameters):
    network = NETWORKS[name](PAPERS_GRID)
    assert count(network) == parameters
    assert network.feature_size == [16, 24, 24]


@pytest.mark.parametrize("grid", GRIDS)
def test_on_other_grids_the_first_linear_layer_alone_has_another_size(grid):
    network, papers = NETWORKS["Attention-Reg"](grid), NETWORKS["Attention-Reg"](PAPERS_GRID)
    positions = torch.Size(network.feature_size).numel()
    assert count(network) == count(papers) - 128 * (9216 - positions)
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    other = [key for key, value in papers.state_dict().items() if value.shape != shapes[key]]
    assert other == ["regressor.0.weight"]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_six_numbers_per_pair(name, grid, training):
    network = NETWORKS[name](grid).train(training)
    x = torch.rand(2, 2, *grid)
    assert network(x).shape == (2, 6)
    assert [list(features.shape[1:]) for features in network.features(x)] == [[32, *network.feature_size]] * 2


@pytest.mark.parametrize("name", NETWORKS)
def test_it_is_what_the_paper_draws(name):
    """Layer after layer by the functional interface."""
    network = NETWORKS[name]((8, 16, 16)).eval()
    x = torch.rand(2, 2, 8, 16, 16)
    f = torch.nn.functional

    def norm(features, module):
        return f.batch_norm(features, module.running_mean, module.running_var, module.weight, module.bias)

    def extracted(image, of):
        image = norm(f.conv3d(image, of.conv1.weight, padding=1), of.norm1).relu()
        image = f.max_pool3d(image, 3, 2, 1)
        image = norm(f.conv3d(image, of.conv2.weight, padding=1), of.norm2).relu()
        return f.max_pool3d(image, 3, (1, 2, 2), 1)

    fixed, moving = extracted(x[:, :1], network.fixed_features), extracted(x[:, 1:], network.moving_features)
    assert fixed.shape == (2, 32, 4, 4, 4)
    if name == "Attention-Reg":
        fixed, moving = (
            network.fixed_attention(fixed, moving).relu(),
            network.moving_attention(moving, fixed).relu(),
        )
    norm1, conv1, _, conv2, _, conv3, norm2, _, _ = network.fusion
    y = norm(torch.cat([fixed, moving], 1), norm1)
    for conv, padding in ((conv1, 0), (conv2, 1)):
        y = f.conv3d(y, conv.weight, conv.bias, padding=padding).relu()
    y = norm(f.conv3d(y, conv3.weight, conv3.bias, padding=1), norm2).flatten(1).relu()
    for linear in (network.regressor[0], network.regressor[2]):
        y = f.linear(y, linear.weight, linear.bias).relu()
    y = f.linear(y, network.regressor[4].weight, network.regressor[4].bias)
    torch.testing.assert_close(network(x), y, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_gets_a_gradient(name):
    network = NETWORKS[name]((8, 16, 16))
    network(torch.rand(3, 2, 8, 16, 16)).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key


@pytest.mark.parametrize("name", NETWORKS)
def test_it_pickles_and_its_weights_travel(name):
    network = NETWORKS[name]((8, 16, 16)).eval()
    x = torch.rand(2, 2, 8, 16, 16)
    other = NETWORKS[name]((8, 16, 16)).eval()
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), network(x))
    assert torch.equal(pickle.loads(pickle.dumps(network))(x), network(x))
    names = {key.split(".")[0] for key in network.state_dict()}
    blocks = {"fixed_attention", "moving_attention"} if name == "Attention-Reg" else set()
    assert names == {"fixed_features", "moving_features", "fusion", "regressor"} | blocks


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", ["Attention-Reg", "Feature-Reg"])
def test_compiles_without_a_graph_break(name, training):
    torch._dynamo.reset()
    network = NETWORKS[name]((8, 16, 16)).train(training)
    x = torch.rand(2, 2, 8, 16, 16)
    reference = copy.deepcopy(network)(x)  # a training step moves the statistics of batch norm
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), reference, rtol=1e-4, atol=1e-4)
    if training:
        compiled(x).sum().backward()
        assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("name", NETWORKS)
def test_autocast_in_bfloat16(name):
    network = NETWORKS[name]((8, 16, 16))
    x = torch.rand(2, 2, 8, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = network(x)
        out.float().square().sum().backward()
    assert torch.isfinite(out).all() and all(torch.isfinite(p.grad).all() for p in network.parameters())
    network.eval()
    expected = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(network(x).float(), expected, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("build", [*NETWORKS.values(), CorrespondenceReg], ids=[*NETWORKS, "correspondences"])
def test_a_wrong_input_is_a_sentence(build):
    network = build((8, 16, 16)).eval()
    for x, message in [
        (torch.rand(1, 1, 8, 16, 16), "trained on 2 input channels but got 1"),
        (torch.rand(1, 2, 8, 16, 20), r"made for the grid \[8, 16, 16\] and got \[8, 16, 20\]"),
        (torch.full((1, 2, 8, 16, 16), float("nan")), "NaN or infinite"),
    ]:
        with pytest.raises(XModalError, match=message):
            network(x)


@pytest.mark.parametrize("grid", [(3, 96, 96), (32, 7, 96), (32, 96, 1), (96, 96), (0, 8, 8)], ids=str)
def test_a_grid_that_is_too_small_is_named_with_the_smallest(grid):
    with pytest.raises(XModalError, match=f"at least 4×8×8 voxels .* this one is {'×'.join(map(str, grid))}: plan"):
        AttentionReg(grid)


@pytest.mark.parametrize("name", NETWORKS)
def test_feature_map_size_is_what_convolutions_put_out(name, count_conv_outputs):
    for grid in GRIDS:
        network = NETWORKS[name](grid)
        counted = count_conv_outputs(network, torch.rand(2, 2, *grid))
        assert network.compute_conv_feature_map_size(list(grid)) == counted


@pytest.mark.slow
def test_a_step_at_the_papers_grid_keeps_a_third_of_the_dense_forms_activations_and_takes_less_time():
    kept, seconds = [], []
    x = torch.rand(1, 2, *PAPERS_GRID)
    network = NETWORKS["Attention-Reg"](PAPERS_GRID)
    for dense in (False, True):
        network.fixed_attention.dense = network.moving_attention.dense = dense
        known = {t.untyped_storage().data_ptr() for t in (*network.parameters(), *network.buffers(), x)}
        storages = {}

        def pack(tensor, known=known, storages=storages):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in known:
                storages[storage.data_ptr()] = storage.nbytes()
            return tensor

        start = process_time()  # of this process alone: others may be busy
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network(x).sum().backward()
        seconds.append(process_time() - start)
        kept.append(sum(storages.values()))
    assert kept[0] < kept[1] / 3
    assert seconds[0] < 0.8 * seconds[1]  # half of it from a batch of 4 on, where the weights leave every cache
