"""What every trainer of a segmenter must do, whatever its method; in process, on random batches."""

import io
import pickle

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in, turn_about

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.trainers import TRAINERS as ALL

TRAINERS = [name for name in ALL if getattr(trainers, name).predictor_class is SegmentationPredictor]
ARCHITECTURES = [(2, False), (3, True)]  # networks of the other two are those of tests/networks
KINDS = ["labels", "labels+ignore", "regions", "regions+ignore"]
ONE_OF_EVERY_LOSS = {getattr(trainers, name)._build_loss: name for name in TRAINERS}.values()
# every trainer on labels and on the kind with the most outputs, one of every loss on all four
LEARNING = [(name, kind) for name in TRAINERS for kind in KINDS if name in ONE_OF_EVERY_LOSS or kind in KINDS[::3]]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """For the trainer that resizes them; test_csad_paper.py is about the size itself."""
    monkeypatch.setattr(trainers.nnUNetTrainerCSADPaper, "slice_size", (24, 24))


def channels_for(name):
    return 4 if name in ("nnUNetTrainerStream2", "nnUNetTrainerStream3") else 2


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name, dimensions=2, residual=False, kind="labels"):
        channels = channels_for(name)
        side = {2: 16, 3: 8}[dimensions]
        plans = make_plans(dimensions, residual, channels, patch_size=(side,) * dimensions)
        return make_trainer(name, plans, make_dataset_json(kind, channels))

    return make


def batch_for(trainer):
    """What nnU-Net's loader and transforms hand to a trainer."""
    labels, patch = trainer.label_manager, trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales() or [[1.0] * len(patch)]
    targets = []
    for scale in scales:
        size = [int(side * share) for side, share in zip(patch, scale)]
        if labels.has_regions:
            targets.append(torch.rand(2, len(labels.foreground_regions) + labels.has_ignore_label, *size) < 0.3)
        else:
            targets.append(torch.randint(0, 3 + labels.has_ignore_label, (2, 1, *size), dtype=torch.int16))
    return {
        "data": torch.randn(2, trainer.num_input_channels, *patch),
        "target": targets if trainer.enable_deep_supervision else targets[0],
        "keys": ["case_0", "case_1"],
    }


def build(trainer, deep_supervision):
    return trainer.build_network_architecture(
        trainer.plans_manager,
        trainer.configuration_manager,
        trainer.num_input_channels,
        trainer.label_manager.num_segmentation_heads,
        deep_supervision,
    )


@pytest.mark.parametrize("name, dimensions, residual", turn_about(TRAINERS, ARCHITECTURES))
def test_builds_learns_saves_loads_and_pickles(make, name, dimensions, residual):
    trainer = make(name, dimensions, residual)
    batch = batch_for(trainer)

    trainer.network.train()
    loss = trainer._build_loss()(trainer.network(batch["data"]), batch["target"])
    loss.backward()
    assert torch.isfinite(loss) and loss.ndim == 0
    for parameter_name, parameter in trainer.network.named_parameters():
        if parameter.requires_grad and ".seg_layers." not in parameter_name:
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), parameter_name

    x = batch["data"]
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        untrained = trainer.network.eval()(x)
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    trainer.train_step(batch)
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        expected = trainer.network.eval()(x)
        assert expected.shape == (2, trainer.label_manager.num_segmentation_heads, *x.shape[2:])
        assert not torch.allclose(untrained, expected)

        file = io.BytesIO()
        torch.save(trainer.network.state_dict(), file)
        file.seek(0)
        predictor = build(trainer, deep_supervision=False)
        predictor.load_state_dict(torch.load(file))
        assert torch.equal(predictor.eval()(x), expected)
        if not residual:  # nnU-Net's own residual blocks hold a lambda
            assert torch.equal(pickle.loads(pickle.dumps(trainer.network))(x), expected)

    trainer_class = type(trainer)
    assert trainer_class is getattr(trainers, name)
    assert pickle.loads(pickle.dumps(trainer_class)) is trainer_class


@pytest.mark.parametrize("name, kind", one_fast_in(5, LEARNING))
def test_trains_and_validates_on_labels_regions_and_an_ignore_label(make, name, kind):
    trainer = make(name, kind=kind)
    batch = batch_for(trainer)
    trainer.network.train()

    def loss_of_step():
        torch.manual_seed(1)  # where streams are dropped, the same in every step
        return trainer.train_step(batch)["loss"]

    first = loss_of_step()
    for _ in range(3):
        last = loss_of_step()
    assert last < first

    trainer.network.eval()
    with torch.no_grad():
        result = trainer.validation_step(batch)
    foreground = 2
    assert all(len(result[key]) == foreground for key in ("tp_hard", "fp_hard", "fn_hard"))


@pytest.mark.parametrize("name", one_fast_in(4, TRAINERS))
def test_two_levels_are_trained(make_trainer, make_plans, name):
    """Images of less than 16 voxels are planned so; nnU-Net gives the only output a weight of 0 of 0."""
    plans = make_plans(channels=channels_for(name), widths=(4, 8), patch_size=(8, 8))
    if name == "nnUNetTrainerAG":
        with pytest.raises(XModalError, match="attention gates need at least three levels, the plans have 2"):
            make_trainer(name, plans)
        return
    trainer = make_trainer(name, plans)
    trainer.network.train()
    assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])
    assert all(torch.isfinite(parameter).all() for parameter in trainer.network.parameters())


@pytest.mark.parametrize("name", one_fast_in(4, TRAINERS))
def test_a_loss_that_turns_nan_stops_the_training(make, name):
    trainer = make(name)
    trainer.network.train()
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(XModalError, match=r"the loss \(loss\) turned NaN or infinite in epoch 0: go on from the last"):
        trainer.train_step(batch_for(trainer))


@pytest.mark.parametrize("name", one_fast_in(2, TRAINERS))
def test_deep_supervision_is_switched_both_ways(make, name):
    trainer = make(name)
    x = batch_for(trainer)["data"]
    network = trainer.network.eval()
    for enabled in (False, True, False):
        trainer.set_deep_supervision_enabled(enabled)
        with torch.no_grad():
            output = network(x)
        assert isinstance(output, list) == (enabled and trainer.enable_deep_supervision)


@pytest.mark.parametrize("name, on", one_fast_in(4, [(name, on) for on in (False, True) for name in TRAINERS]))
def test_deep_supervision_is_an_attribute(make_trainer, make_plans, name, on):
    toggled = type("nnUNetTrainerToggled", (getattr(trainers, name),), {"deep_supervision": on})
    trainer = make_trainer(toggled, make_plans(channels=channels_for(name)))
    trainer.network.train()
    batch = batch_for(trainer)
    assert isinstance(batch["target"], list) == on
    assert np.isfinite(trainer.train_step(batch)["loss"])
    if not on:  # with it, nnU-Net gives the coarsest head no weight
        assert all(p.grad is not None for p in trainer.network.parameters() if p.requires_grad)
    trainer.set_deep_supervision_enabled(True)  # nnU-Net does so at the end of every validation
    assert trainer.network.decoder.deep_supervision == on


ONE_ENCODER = [name for name in TRAINERS if name.endswith("EarlyFusion")]
ONE_ENCODER += [
    name
    for name in TRAINERS
    if issubclass(getattr(trainers, name), trainers.nnUNetTrainerFA | trainers.nnUNetTrainerZeroFill)
]
ONE_ENCODER += ["nnUNetTrainerHSCNet", "nnUNetTrainerMultiResUNet", "nnUNetTrainerUNetPlusPlus"]
TWO_STREAMS = [name for name in TRAINERS if issubclass(getattr(trainers, name), trainers.nnUNetTrainerCMFF)]
ONE_OF_TWO = ["nnUNetTrainerCMFFStreamA", "nnUNetTrainerCMFFStreamB"]


@pytest.mark.parametrize("name", one_fast_in(2, TRAINERS))
def test_streams_travel_in_the_plans_that_are_saved(make_trainer, make_plans, make_dataset_json, name):
    """The model folder alone must build the same network: dataset.json is not asked again."""
    streams, expected = [["FLAIR"], ["T1c", "T1"], ["T2"]], [[3], [1, 0], [2]]
    if name == "nnUNetTrainerStream3":
        streams, expected = [["FLAIR"], [1], [0], [2]], [[3], [1], [0], [2]]
    elif name in TWO_STREAMS:
        streams, expected = [["FLAIR"], ["T1c", "T1", 2]], [[3], [1, 0, 2]]
    dataset_json = make_dataset_json(channels=4) | {"xmodal": {"streams": streams}}
    trainer = make_trainer(name, make_plans(channels=4), dataset_json)
    assert trainer.plans_manager.plans["xmodal"]["streams"] == expected
    read_by = build(trainer, deep_supervision=False).encoder.stream_channels
    assert read_by == trainer.network.encoder.stream_channels
    alone = name.removeprefix("nnUNetTrainerStream")
    if alone.isdecimal():
        assert read_by == [expected[int(alone)]]
    elif name in ONE_OF_TWO:
        assert read_by == [expected[ONE_OF_TWO.index(name)]]
    elif name in ONE_ENCODER:
        assert read_by == [[0, 1, 2, 3]]
    else:
        assert read_by == expected


FUSERS = ("CSAD", "SCFF", "StreamGates", "HyperDenseNet", "OctopusNet", "FuseUNet", "mmFormer")
FUSING = [name for name in TRAINERS if any(word in name for word in FUSERS)]


@pytest.mark.parametrize("name", [name for name in FUSING if not name.endswith("EarlyFusion")])
def test_fusion_of_one_stream_is_refused(make_trainer, make_plans, name):
    with pytest.raises(XModalError, match=rf"{name} fuses two or more streams but the plans hold one, \[\[0\]\]"):
        make_trainer(name, make_plans(channels=1))


@pytest.mark.parametrize("name", TWO_STREAMS)
def test_any_other_number_of_streams_than_two_is_refused(make_trainer, make_plans, name):
    entry = r'write for example "xmodal": \{"streams": \[\[0\], \[1, 2\]\]\} into dataset.json'
    with pytest.raises(XModalError, match=rf"exactly two streams .* hold 3, \[\[0\], \[1\], \[2\]\]: {entry}"):
        make_trainer(name, make_plans(channels=3))


def test_a_stream_that_is_not_there_is_refused(make_trainer, make_plans):
    with pytest.raises(XModalError, match=r"nnUNetTrainerStream2 reads stream 2 but the plans hold 2, \[\[0"):
        make_trainer("nnUNetTrainerStream2", make_plans())


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make("nnUNetTrainerCSAD"), batch_for)


@pytest.mark.parametrize(
    "name, streams, fused, distilled",
    [
        ("nnUNetTrainerMultiStream", 2, False, None),
        ("nnUNetTrainerSCFF", 2, True, None),
        ("nnUNetTrainerCSADNoSCFF", 2, False, "ILC"),
        ("nnUNetTrainerCSAD", 2, True, "ILC"),
        ("nnUNetTrainerCSADPLC", 2, True, "PLC"),
        ("nnUNetTrainerCSADEarlyFusion", 1, False, "ILC"),
    ],
)
def test_rows_of_the_papers_tables(make, name, streams, fused, distilled):
    network = make(name).network
    assert len(network.encoder.streams) == streams
    assert (network.encoder.fusion is not None) == fused
    assert (network.distillation and network.distillation.scheme) == distilled


def _chain(kind: type) -> list[str]:
    """The longest line of classes of this package from a trainer to nnU-Net's, itself included; mixins are no line."""
    lines = [_chain(base) for base in kind.__bases__ if base.__module__.startswith("nnunet_xmodal")]
    return [kind.__name__, *max(lines, key=len, default=[])]


@pytest.mark.parametrize("name", trainers.TRAINERS)
def test_no_chain_of_classes_is_deeper_than_five(name):
    chain = [each for each in _chain(getattr(trainers, name)) if each != "OwnSteps"]
    assert len(chain) <= 5, chain


@pytest.mark.parametrize("name", one_fast_in(4, TRAINERS))
def test_nothing_stays_on_the_cpu_where_there_is_a_gpu(make, pretended_gpu, name, own_task):
    own_task.is_all_on_a_gpu(pretended_gpu, lambda: make(name), batch_for)
