import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.networks.blocks.cbam import CBAM
from nnunet_xmodal.networks.branches_unet import BranchesUNet
from nnunet_xmodal.networks.cmff_unet import CMFFUNet


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name="nnUNetTrainerCMFF", kind="labels", **attributes):
        trainer = type(name, (getattr(trainers, name),), attributes) if attributes else name
        return make_trainer(trainer, make_plans(), make_dataset_json(kind, 2))

    return make


def outputs_and_targets():
    """Of a branch with two levels, and of S_F with one."""
    targets = [torch.randint(0, 3, (2, 1, side, side)) for side in (16, 8)]
    branch_a, branch_b = ([torch.randn(2, 3, side, side) for side in (16, 8)] for _ in range(2))
    return [torch.randn(2, 3, 16, 16)], branch_a, branch_b, targets


def test_equation_7_with_deep_supervision(make):
    """Every branch counts as nnU-Net's network does, S_F with its only level as much as a branch."""
    trainer = make()
    fused, a, b, targets = outputs_and_targets()
    stock = nnUNetTrainer._build_loss(trainer)
    loss = trainer._build_loss()
    expected = stock.loss(fused[0], targets[0]) + stock(a, targets) + stock(b, targets)
    torch.testing.assert_close(loss((fused, (a, b)), targets), expected)
    torch.testing.assert_close(loss(fused, targets), stock.loss(fused[0], targets[0]))
    torch.testing.assert_close(loss((a, (b,)), targets), stock(a, targets) + stock(b, targets))


def test_equation_7_without_deep_supervision(make):
    trainer = make(deep_supervision=False)
    (fused,), (a, _), (b, _), (target, _) = outputs_and_targets()
    stock, loss = nnUNetTrainer._build_loss(trainer), trainer._build_loss()
    expected = stock(fused, target) + stock(a, target) + stock(b, target)
    torch.testing.assert_close(loss((fused, (a, b)), target), expected)
    torch.testing.assert_close(loss(fused, target), stock(fused, target))


@pytest.mark.parametrize("deep_supervision", [False, True])
@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_equation_8_is_the_dice_part_alone(make, kind, deep_supervision):
    trainer = make("nnUNetTrainerCMFFDice", kind, deep_supervision=deep_supervision)
    loss = trainer._build_loss()
    logits = torch.randn(2, trainer.label_manager.num_segmentation_heads, 16, 16)
    regions = kind == "regions"
    target = torch.rand(2, 2, 16, 16) < 0.3 if regions else torch.randint(0, 3, (2, 1, 16, 16))
    dice = MemoryEfficientSoftDiceLoss(
        torch.sigmoid if regions else lambda x: x.softmax(1), batch_dice=True, do_bg=regions, smooth=1e-5, ddp=False
    )
    value = loss([logits], [target]) if deep_supervision else loss(logits, target)
    torch.testing.assert_close(value, dice(logits, target))


def test_rows_of_table_2(make):
    networks = {name: make(f"nnUNetTrainerCMFF{name}").network for name in ("", *"NoMask CBAM Mean StreamA".split())}
    networks["StreamB"] = make("nnUNetTrainerCMFFStreamB").network
    assert [name for name, network in networks.items() if isinstance(network, CMFFUNet)] == ["", "NoMask", "CBAM"]
    assert networks[""].fusion.guidance is not None and networks[""].fusion.attention is None
    assert networks["NoMask"].fusion.guidance is None and networks["NoMask"].fusion.attention is None
    assert networks["CBAM"].fusion.guidance is None and isinstance(networks["CBAM"].fusion.attention, CBAM)
    branches = {name: list(networks[name].branches) for name in ("Mean", "StreamA", "StreamB")}
    assert branches == {"Mean": ["A", "B"], "StreamA": ["A"], "StreamB": ["B"]}
    assert all(type(networks[name]) is BranchesUNet for name in branches)


def test_readings_of_the_mask_are_attributes(make):
    default = make().network.fusion.guidance
    assert (default.identity, default.per_class, default.detach) == (True, False, False)
    other = make(identity=False, per_class_masks=True, detach_masks=True).network.fusion
    assert (other.guidance.identity, other.guidance.per_class, other.guidance.detach) == (False, True, True)
    assert other.seg_layers[0].in_channels == 3 * 4


@pytest.mark.parametrize("name", ["nnUNetTrainerCMFF", "nnUNetTrainerCMFFMean"])
@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_prediction_knows_from_the_plans_whether_outputs_are_regions(make, name, kind):
    trainer = make(name, kind)
    assert trainer.network.regions == (kind == "regions")
    heads = trainer.label_manager.num_segmentation_heads
    arguments = (trainer.plans_manager, trainer.configuration_manager, 2, heads, False)
    predicting = type(trainer).build_network_architecture(*arguments).eval()
    assert predicting.regions == (kind == "regions")
    predicting.load_state_dict(trainer.network.state_dict())
    x = torch.randn(1, 2, 16, 16)
    trainer.set_deep_supervision_enabled(False)
    assert torch.equal(predicting(x), trainer.network.eval()(x))


@pytest.fixture
def log_at_start(make, monkeypatch):
    """`(trainer)` → what it says when its training starts; nnU-Net's own start needs a preprocessed dataset."""

    def log_at_start(trainer):
        lines = []
        monkeypatch.setattr(nnUNetTrainer, "on_train_start", lambda self: None)
        monkeypatch.setattr(trainer, "print_to_log_file", lambda *words: lines.append(" ".join(words)))
        trainer.on_train_start()
        return "\n".join(lines)

    return log_at_start


RANDOM, PRETRAINED = "The branches start from random weights", "The branches start from pretrained weights"


@pytest.mark.parametrize("name", ["nnUNetTrainerCMFF", "nnUNetTrainerCMFFStreamB"])
def test_where_a_training_starts_is_said(make, log_at_start, tmp_path, name):
    trainer, source = make(name), make()
    assert RANDOM in log_at_start(trainer)
    torch.save({"network_weights": source.network.state_dict()}, tmp_path / "pretrained.pth")
    load_pretrained_weights(trainer.network, tmp_path / "pretrained.pth")
    assert PRETRAINED in log_at_start(trainer)


def test_a_continued_training_has_its_start_behind_it(make, log_at_start, tmp_path):
    checkpoint = str(tmp_path / "checkpoint_latest.pth")
    make().save_checkpoint(checkpoint)
    trainer = make()
    trainer.load_checkpoint(checkpoint)
    log = log_at_start(trainer)
    assert "Streams: T1 | T1c" in log and "branches start" not in log
