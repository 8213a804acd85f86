"""Every network under torch.compile and on two ranks."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch._functorch import config as compilation

from nnunet_xmodal import trainers
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.fuse_unet import FuseUNet
from nnunet_xmodal.networks.hsc_net import HSCNet
from nnunet_xmodal.networks.hyper_dense_net import HyperDenseNet
from nnunet_xmodal.networks.late_fusion_unet import LateFusionUNet
from nnunet_xmodal.networks.mm_former import MMFormer
from nnunet_xmodal.networks.multi_res_unet import MultiResUNet
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.octopus_net import OctopusNet
from nnunet_xmodal.networks.unet_plus_plus import UNetPlusPlus
from nnunet_xmodal.numerics import keep_full_precision_in_compiled_backward


def paths(scheme):
    return DistillationPaths(scheme, AttentionMapGenerationBlock())


NETWORKS = {
    "streams": MultiStreamUNet,
    "CSAD": partial(MultiStreamUNet, fusion=SpatialCorrelatedFeatureFusion, distillation=paths("ILC")),
    "PLC, row softmax": partial(
        MultiStreamUNet,
        fusion=partial(SpatialCorrelatedFeatureFusion, softmax="row"),
        distillation=paths("PLC"),
    ),
    "FA": partial(MultiStreamUNet, attention=trainers.nnUNetTrainerFA.attention()),
    "CSADFA": partial(
        MultiStreamUNet,
        fusion=SpatialCorrelatedFeatureFusion,
        attention=trainers.nnUNetTrainerFA.attention(),
        distillation=paths("ILC"),
    ),
    "SA": partial(MultiStreamUNet, attention=trainers.nnUNetTrainerSA.attention()),
    "RSA": partial(MultiStreamUNet, attention=trainers.nnUNetTrainerRSA.attention()),
    "DA": partial(MultiStreamUNet, attention=trainers.nnUNetTrainerDualAttention.attention()),
    "AG": partial(MultiStreamUNet, attention=trainers.nnUNetTrainerAG.attention()),
    "gates": partial(MultiStreamUNet, exchange=trainers.nnUNetTrainerStreamGates.exchange()),
    "SCFF at levels": partial(MultiStreamUNet, exchange=trainers.nnUNetTrainerSCFFLevels.exchange()),
    "late fusion": partial(LateFusionUNet, fusion=SpatialCorrelatedFeatureFusion, distillation=paths("ILC")),
    "HyperDenseNet": HyperDenseNet,
    "OctopusNet": OctopusNet,
    "FuseUNet": FuseUNet,
    "HSCNet": HSCNet,
    "MultiResUNet": MultiResUNet,
    "UNet++": UNetPlusPlus,
    "mmFormer": partial(MMFormer, patch_size=(16, 16), dropout=0.0),
}
RIVALS = ("HyperDenseNet", "OctopusNet", "FuseUNet", "HSCNet", "MultiResUNet", "UNet++", "mmFormer")
CASES = [
    ("streams", 2, True, False),
    ("CSAD", 2, False, True),
    ("CSAD", 3, False, False),
    ("PLC, row softmax", 2, True, True),
    ("late fusion", 2, False, True),
    ("late fusion", 3, False, False),
    ("CSADFA", 2, False, True),
    ("FA", 3, False, False),
    *((name, 2, False, False) for name in ("SA", "RSA", "DA", "AG")),
    *((name, 3, False, True) for name in ("gates", "SCFF at levels")),
    *((name, 2, False, True) for name in RIVALS),
]


def tensors_of(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for part in output for tensor in tensors_of(part)]


@pytest.mark.slow
@pytest.mark.parametrize("name, dimensions, residual, deep_supervision", CASES)
def test_compiles_without_a_graph_break(make_unet_arguments, name, dimensions, residual, deep_supervision):
    # gates are on neither the finest nor the coarsest skip, and neither are nested ones
    widths = (4, 8, 8) if name in ("AG", "UNet++") else (4, 8)
    options = {"deep_supervision": deep_supervision, "widths": widths}
    arguments = make_unet_arguments([[0, 2], [1]], dimensions, residual, **options)
    network = NETWORKS[name](**arguments)
    x = torch.randn(2, 3, *(16,) * dimensions)
    for training in (True, False):
        torch._dynamo.reset()
        network.train(training)
        compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
        outputs, expected = tensors_of(compiled(x)), tensors_of(network(x))
        assert len(outputs) == len(expected)
        for output, reference in zip(outputs, expected):
            torch.testing.assert_close(output, reference, rtol=1e-4, atol=1e-4)
        if training:
            sum(output.mean() for output in outputs).backward()
            assert all(p.grad is not None for p in network.parameters() if p.requires_grad)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, deep_supervision, compiled",
    [
        ("nnUNetTrainerCSAD", True, False),
        ("nnUNetTrainerCSAD", False, False),
        ("nnUNetTrainerCSAD", True, True),
        ("nnUNetTrainerCSADLateFusion", True, False),
        ("nnUNetTrainerCSADLateFusion", False, False),
        ("nnUNetTrainerCSADFA", False, False),
        ("nnUNetTrainerAG", True, False),
        ("nnUNetTrainerCMFF", True, False),
        ("nnUNetTrainerCSADDropout", True, True),
        ("nnUNetTrainerCSADDropout", False, False),
        ("nnUNetTrainerCMFFDropout", True, False),
        ("nnUNetTrainerStreamGates", True, False),
        ("nnUNetTrainerSCFFLevels", True, False),
        ("nnUNetTrainerHyperDenseNet", True, False),
        ("nnUNetTrainerOctopusNet", False, False),
        ("nnUNetTrainerFuseUNet", True, False),
        ("nnUNetTrainerHSCNet", True, False),
        ("nnUNetTrainerMultiResUNet", True, False),
        ("nnUNetTrainerUNetPlusPlus", True, False),
        ("nnUNetTrainermmFormer", False, False),
    ],
)
def test_three_steps_on_two_ranks_leave_both_with_the_same_weights(
    make_trainer, make_plans, tmp_path, on_two_ranks, name, deep_supervision, compiled
):
    trainer_class = type(name, (getattr(trainers, name),), {"deep_supervision": deep_supervision})
    trainer = make_trainer(trainer_class, make_plans())
    trainer.is_ddp = True  # the loss as trainers build it there: a weight of 1e-6 where it is 0 alone
    loss = trainer._build_loss()
    if deep_supervision:
        assert 0 < getattr(loss, "segmentation_loss", loss).weight_factors[-1] < 1e-5
    targets = [[torch.randint(0, 3, (2, 1, side, side)) for side in (16, 8)] for rank in range(2)]
    torch.save(
        {
            "network": trainer.network,
            "loss": loss,
            "compiled": compiled,
            "data": [torch.randn(2, 2, 16, 16) for rank in range(2)],
            "target": targets if deep_supervision else [finest for finest, _ in targets],
        },
        tmp_path / "task.pt",
    )

    on_two_ranks(__file__, tmp_path)
    before, first, second = trainer.network.state_dict(), *(torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first.keys() == before.keys()
    assert all(torch.equal(first[key], second[key]) for key in before)
    unchanged = {key for key in before if torch.equal(first[key], before[key])}
    frozen = {name for name, parameter in trainer.network.named_parameters() if not parameter.requires_grad}
    buffers = {name for name, _ in trainer.network.named_buffers()}
    # what the loss weighs 1e-6 may be lost in rounding where streams are dropped, too
    coarsest = {key for key in before if ".seg_layers.0." in key and "Dropout" in name}
    assert unchanged - coarsest == (frozen | buffers) - coarsest


def train_on_rank(rank: int, folder: Path) -> None:
    task = torch.load(folder / "task.pt", weights_only=False)
    network = task["network"].train()
    compiled = torch.compile(network, backend="aot_eager") if task["compiled"] else network
    ddp = torch.nn.parallel.DistributedDataParallel(compiled)  # around the compiled network, as nnU-Net does
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True)
    for _ in range(3):
        optimizer.zero_grad()
        task["loss"](ddp(task["data"][rank]), task["target"][rank]).backward()
        optimizer.step()
    torch.save(network.state_dict(), folder / f"{rank}.pt")


@pytest.mark.skipif(not hasattr(compilation, "backward_pass_autocast"), reason="this torch compiles no other way")
def test_backward_passes_are_as_precise_compiled_as_not():
    """Where autocast is switched off in the forward pass, torch.compile would take the backward one to bfloat16."""
    fusion = SpatialCorrelatedFeatureFusion(torch.nn.Conv2d, 4, 2)
    gradients = []
    with compilation.patch(backward_pass_autocast="same_as_forward"):  # puts back what was there before
        keep_full_precision_in_compiled_backward()
        for run in (fusion, torch.compile(fusion, backend="aot_eager")):
            torch.manual_seed(0)
            streams = [torch.randn(1, 4, 5, 6, requires_grad=True) for _ in range(2)]
            with torch.autocast("cpu", torch.bfloat16):
                fused = run(streams)
            fused.float().square().sum().backward()
            gradients.append(streams[0].grad)
    torch.testing.assert_close(*gradients)
