"""Trainers of few-shot segmentation: what every trainer must do, and that no label reaches a weight."""

import pickle
from copy import deepcopy
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import timm
import torch
import torchvision
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.networks import lite_backbone, resnet_backbone
from nnunet_xmodal.networks.blocks.local_prototypes import ClassPrototypes
from nnunet_xmodal.phantoms.organs import organ_phantom
from nnunet_xmodal.tasks.few_shot.episode_transforms import ALPNET, unchanged
from nnunet_xmodal.tasks.few_shot.episodes import on_patch
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base import few_shot as few_shot_base
from nnunet_xmodal.trainers.base import few_shot_validation
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), FewShotTrainer)]
FORMER = [name for name in NAMES if "OneSuperpixel" in name]
LITE = [name for name in NAMES if name.endswith("Lite")]
SMALL = [name for name in NAMES if name.endswith("R18") and name not in FORMER]
LARGE = [name for name in NAMES if not name.endswith(("R18", "Lite")) and name not in FORMER]
SIZE = (64, 64)
SUPPORT = "support."
DOWNLOADED = resnet_backbone._downloaded


class NarrowResNet18(torchvision.models.ResNet):
    """ResNet-18 with an eighth of its channels behind the first convolution."""

    def __init__(self):
        super().__init__(torchvision.models.resnet.BasicBlock, [2, 2, 2, 2])
        self.fc = nn.Linear(512 // 8, 1000)

    def _make_layer(self, block, planes, *args, **kwargs):
        return super()._make_layer(block, planes // 8, *args, **kwargs)


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Whatever the width of a backbone, the method is the same; test_resnet_backbone.py is about the real ones."""
    monkeypatch.setitem(resnet_backbone._BUILDERS, "resnet18", NarrowResNet18)


@pytest.fixture(autouse=True)
def no_download(monkeypatch):
    monkeypatch.setattr(resnet_backbone, "_downloaded", lambda name, weights: None)


@pytest.fixture(autouse=True)
def random_lite(monkeypatch):
    monkeypatch.setattr(lite_backbone, "_package_weights", lambda weights: random_state())


def random_state():
    """As the package's file: the same layers in the same order, under other names."""
    state = timm.create_model("tf_efficientnet_lite0").state_dict()
    return {f"_{number}": value for number, value in enumerate(state.values())}


def few_shot_plans(plans: dict, size=SIZE) -> dict:
    """As FewShotPlanner writes them."""
    plans["plans_name"] = "nnUNetFewShotPlans"
    plans["configurations"]["2d"]["architecture"] = {
        "network_class_name": "nnunet_xmodal.networks.prototype_network.PrototypeNetwork",
        "arch_kwargs": {"size": list(size), "chunks": 3, "shots": 1},
        "_kw_requires_import": [],
    }
    return plans


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json):
    def make(name, channels=1, kind="labels", initialize=True, size=SIZE):
        plans = few_shot_plans(make_plans(channels=channels, patch_size=size, batch_size=1), size)
        return make_trainer(name, plans, make_dataset_json(kind, channels), initialize)

    return make


def batch_for(trainer, seed=0):
    """An episode as the trainer's own loader hands it out: a bright disc, and the same one elsewhere."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*map(torch.arange, SIZE), indexing="ij")
    centres = torch.randint(20, 44, (2, 2), generator=generator)
    masks = torch.stack([(y - row) ** 2 + (x - column) ** 2 < 15**2 for row, column in centres]).to(torch.uint8)
    noise = torch.randn(2, trainer.num_input_channels, *SIZE, generator=generator)
    support, query = 2 * masks[:, None] + 0.3 * noise
    return {
        "data": query[None],
        "query_mask": masks[1:],
        "support": support[None, None],
        "support_mask": masks[None, :1],
        "pair": torch.tensor([0]),
        "keys": ["anna"],
    }


def with_support(trainer):
    """One slice for every label, in the middle chunk."""
    for label in range(trainer.plain_network.labels):
        episode = batch_for(trainer, seed=label)
        trainer.plain_network.set_support(label, 1, 0, episode["support"][0, 0], episode["support_mask"][0, 0])
    return trainer


@pytest.mark.parametrize("name", SMALL)
def test_builds_learns_saves_and_loads(make, name, own_task):
    trainer = with_support(make(name))
    trainer.network.train()
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch)["loss"] for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]
    assert not own_task.without_gradient(trainer.network)
    trainer.network.eval()
    score = trainer.validation_step(batch)["score"]
    assert 0 <= score <= 1

    assert trainer.network(batch["data"]).shape == (1, 3, *SIZE)
    own_task.is_saved_and_loaded(trainer, lambda: make(name), batch["data"])


def build(name, trainer):
    """On torch's meta device, as prediction builds it."""
    with torch.device("meta"):
        return getattr(trainers, name).build_network_architecture(
            trainer.plans_manager,
            trainer.configuration_manager,
            trainer.num_input_channels,
            trainer.label_manager.num_segmentation_heads,
            False,
        )


@pytest.mark.parametrize("name, channels", [*((name, 1) for name in LARGE), ("nnUNetTrainerCRTP", 3)])
def test_on_resnet_101_and_on_resnet_18_it_is_the_same_method(make, name, channels):
    trainer = make(f"{name}R18", channels, size=(256, 256))
    large, small = build(name, trainer), trainer.network
    assert sum(parameter.numel() for parameter in large.backbone.parameters()) == 43_024_448
    shapes = [
        {key: value.shape for key, value in network.state_dict().items() if not key.startswith("backbone.")}
        for network in (large, small)
    ]
    assert shapes[0] == shapes[1]
    assert large(torch.empty(1, channels, 256, 256, device="meta")).shape == (1, 3, 256, 256)
    own = {key: value for key, value in vars(getattr(trainers, f"{name}R18")).items() if not key.startswith("__")}
    assert not own and getattr(trainers, name).weights == "coco" and type(trainer).weights == "imagenet"


@pytest.mark.slow
def test_resnet_101_learns(make):
    trainer = make("nnUNetTrainerCRTP")
    trainer.network.train()
    losses = [trainer.train_step(batch_for(trainer))["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]


def test_what_tells_the_trainers_apart(make):
    extra = {
        name: sum(p.numel() for key, p in make(name).network.named_parameters() if not key.startswith("backbone."))
        for name in SMALL
    }
    gate = 2 * 256 * 16 + 256 + 16
    assert extra == {
        "nnUNetTrainerCRTPR18": 2 * gate + 2 * (256 + 1) * 3 * 256,
        "nnUNetTrainerCRBaseR18": 2 * gate,
        "nnUNetTrainerCRMaskR18": 2 * gate,
        "nnUNetTrainerALPR18": 0,
        "nnUNetTrainerPANetR18": 0,
    }
    assert [make(f"nnUNetTrainerCR{which}R18").network.cross_reference.with_mask for which in ("Base", "Mask")] == [
        False,
        True,
    ]
    optimisers = {"Adam": (0.98, 0.0, unchanged), "SGD": (0.95, 5e-4, ALPNET)}
    for name in SMALL:
        trainer = make(name)
        kind = type(trainer.optimizer).__name__
        assert kind == ("SGD" if "ALP" in name or "PANet" in name else "Adam")
        assert (trainer.decay, trainer.optimizer.param_groups[0]["weight_decay"], trainer.transform_support) == (
            optimisers[kind]
        )
        trainer.lr_scheduler.step(50)
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * optimisers[kind][0] ** 50)
        assert (trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.batch_size) == (100, 1000, 1)
        assert trainer.oversample_foreground_percent == 0


@pytest.mark.parametrize("name, killed_after", [("nnUNetTrainerCRTPR18", 1), ("nnUNetTrainerALPR18", 2)])  # Adam, SGD
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, own_task):
    own_task.resumes_bit_for_bit(lambda: make(name), batch_for, epochs=3, steps=2, killed_after=killed_after)


@pytest.mark.parametrize("name", SMALL)
def test_autocast_to_bfloat16_is_finite(make, name, own_task):
    own_task.is_finite_in_bfloat16(make(name), batch_for)


def test_gradients_that_a_grad_scaler_scales_are_the_same(make, own_task):
    own_task.has_the_same_gradients_when_scaled(lambda: make("nnUNetTrainerALPR18"), batch_for)


@pytest.mark.slow
def test_a_step_compiles_without_a_graph_break(make):
    torch._dynamo.reset()
    trainer = make("nnUNetTrainerCRTPR18")
    trainer.network.train()
    expected = deepcopy(trainer.network)
    batch = batch_for(trainer)
    arguments = (batch["data"], batch["support"], batch["support_mask"])
    trainer.network = torch.compile(trainer.network, fullgraph=True, backend="aot_eager")
    for ours, theirs in zip(trainer.network(*arguments), expected(*arguments)):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert np.isfinite(trainer.train_step(batch)["loss"])
    with_support(trainer)
    trainer.set_deep_supervision_enabled(True)  # nnU-Net does, whatever wraps the network
    assert trainer.network.eval()(batch["data"]).shape == (1, 3, *SIZE)


@pytest.mark.parametrize("channels", [2, 4])
def test_several_channels(make, channels):
    trainer = with_support(make("nnUNetTrainerCRTPR18", channels))
    trainer.network.train()
    batch = batch_for(trainer)
    assert batch["support"].shape == (1, 1, channels, *SIZE)
    losses = [trainer.train_step(batch)["loss"] for _ in range(8)]
    assert losses[-1] < losses[0]
    assert trainer.network.eval()(batch["data"]).shape == (1, 3, *SIZE)


@pytest.mark.parametrize("kind", ["labels", "labels+ignore", "regions", "regions+ignore"])
def test_labels_and_regions_have_the_outputs_that_nnunet_expects(make, kind):
    trainer = with_support(make("nnUNetTrainerPANetR18", kind=kind))
    regions = kind.startswith("regions")
    assert trainer.network.labels == 2 and trainer.network.background == (not regions)
    assert trainer.plans_manager.plans["xmodal"]["regions"] == regions
    out = trainer.network.eval()(batch_for(trainer)["data"])
    assert out.shape[1] == trainer.label_manager.num_segmentation_heads == (2 if regions else 3)
    # prediction knows nothing but the plans of the model folder
    written = pickle.loads(pickle.dumps(trainer.plans_manager.plans))
    manager = PlansManager(written)
    rebuilt = trainer.build_network_architecture(
        manager, manager.get_configuration("2d"), 1, trainer.label_manager.num_segmentation_heads, False
    )
    rebuilt.load_state_dict(trainer.network.state_dict())
    assert torch.equal(rebuilt.eval()(batch_for(trainer)["data"]), out)


@pytest.mark.parametrize("name", LITE)
def test_on_efficientnet_lite_it_is_the_same_method(make, name):
    trainer = make(name.replace("Lite", "R18"))
    lite, resnet = build(name, trainer), trainer.network
    shapes = [
        {key: value.shape for key, value in network.state_dict().items() if not key.startswith("backbone.")}
        for network in (lite, resnet)
    ]
    assert shapes[0] == shapes[1] and lite.backbone.features == resnet.backbone.features == 256
    own = {key: value for key, value in vars(getattr(trainers, name)).items() if not key.startswith("__")}
    assert not own and getattr(trainers, name).weights == "imagenet"


def test_efficientnet_lite_learns(make):
    trainer = make("nnUNetTrainerCRTPLite")
    trainer.network.train()
    losses = [trainer.train_step(batch_for(trainer))["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]


def test_what_was_done_at_first_has_names_of_its_own(make):
    """One superpixel, windows of fixed size, weights in both terms, 0 as padding; nothing else differs."""
    for name in FORMER:
        kind = getattr(trainers, name)
        now = getattr(trainers, name.replace("OneSuperpixel", ""))
        assert (kind.superpixels_per_pair, now.superpixels_per_pair) == (1, 8)
        assert (kind.alignment_weights, now.alignment_weights) == ((0.05, 1.0), (1.0, 1.0))
        assert (kind.padded_by_background, now.padded_by_background) == (False, True)
        for prototypes, windows in ((kind.prototypes(), (4, 2)), (now.prototypes(), (None, None))):
            if "PANet" in name:
                assert type(prototypes) is ClassPrototypes
            else:
                assert (prototypes.training_window, prototypes.window) == windows
        others = set(dir(FewShotTrainer)) - {"superpixels_per_pair", "alignment_weights", "padded_by_background"}
        for attribute in ("initial_lr", "decay", "momentum", "weight_decay", "transform_support", "backbone"):
            assert attribute in others and getattr(kind, attribute) == getattr(now, attribute)
    trainer = make("nnUNetTrainerCRTPOneSuperpixelR18")
    assert trainer.loss.alignment_weights == (0.05, 1.0) and not trainer.network.padded_by_background
    assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])


def built_from(trainer, plans):
    """The network as prediction builds it from the plans of a model folder."""
    manager = PlansManager(pickle.loads(pickle.dumps(plans)))
    return trainer.build_network_architecture(manager, manager.get_configuration("2d"), 1, 3, False)


@pytest.mark.parametrize("name", ["nnUNetTrainerCRTPR18", "nnUNetTrainerCRTPOneSuperpixelR18"])
def test_models_from_before_predict_as_they_were_trained(make, name, tmp_path):
    """Their plans say nothing about how slices are seen."""
    trainer = with_support(make(name))
    plans = trainer.plans_manager.plans
    as_now = built_from(trainer, plans)
    assert as_now.padded_by_background == ("One" not in name)
    assert as_now.prototypes.window == (2 if "One" in name else None)

    old_plans = {**plans, "xmodal": {key: plans["xmodal"][key] for key in ("streams", "regions")}}
    as_before = built_from(trainer, old_plans)
    assert (as_before.prototypes.training_window, as_before.prototypes.window) == (4, 2)
    assert not as_before.padded_by_background

    file = tmp_path / "checkpoint_final.pth"
    trainer.save_checkpoint(str(file))
    checkpoint = torch.load(file, weights_only=False)
    assert checkpoint["init_args"]["plans"]["xmodal"]["few_shot_sight"] == 2
    del checkpoint["init_args"]["plans"]["xmodal"]["few_shot_sight"]
    torch.save(checkpoint, file)
    resumed = make(name)
    resumed.load_checkpoint(str(file))
    assert (resumed.network.prototypes.window, resumed.network.padded_by_background) == (2, False)
    assert "few_shot_sight" not in resumed.plans_manager.plans["xmodal"]
    x = batch_for(trainer)["data"]
    as_before.load_state_dict(trainer.network.state_dict())
    assert torch.equal(resumed.network.eval()(x), as_before.eval()(x))


def test_old_and_new_folds_do_not_share_a_folder(make):
    trainer = make("nnUNetTrainerPANetR18")
    model = Path(trainer.output_folder_base)
    (model / "fold_3").mkdir(parents=True)
    (model / "fold_3" / "checkpoint_final.pth").touch()
    write_json({"xmodal": {}}, model / "plans.json")
    with pytest.raises(XModalError, match="fold_3 was trained with windows of fixed size and 0 as padding"):
        trainer.on_train_start()


def test_further_shots_are_a_class_attribute(make):
    class FiveShots(trainers.nnUNetTrainerALPR18):
        shots = 5

    assert make(FiveShots).network.support.exists.shape == (2, 3, 5)
    assert make("nnUNetTrainerALPR18").network.support.exists.shape == (2, 3, 1)


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make("nnUNetTrainerALPR18"), batch_for)


def test_a_loss_that_turns_nan_stops_the_training(make, own_task):
    trainer = make("nnUNetTrainerALPR18")
    weight = trainer.network.backbone.project.weight
    own_task.stops_at_nan(trainer, weight, batch_for, "turned NaN or infinite in epoch 0: go on from")


def test_every_gpu_has_episodes_of_its_own(make, monkeypatch):
    trainer = make("nnUNetTrainerALPR18", initialize=False)
    trainer.is_ddp = True  # nnU-Net would not share one episode among several
    trainer._set_batch_size_and_oversample()
    assert trainer.batch_size == 1


class TestWeights:
    """Of a backbone, on a machine without a network."""

    @pytest.fixture
    def attempts(self, monkeypatch):
        """The addresses that were asked for; none answers."""
        asked = []

        def fails(self, *args, **kwargs):
            asked.append(self.url)
            raise URLError("no route to host")

        monkeypatch.setattr(resnet_backbone, "_downloaded", DOWNLOADED)  # the download itself is what fails
        monkeypatch.setattr(torchvision.models._api.WeightsEnum, "get_state_dict", fails)
        monkeypatch.setattr(resnet_backbone, "_said", set())
        return asked

    def test_the_fallback_is_said_once_and_the_training_goes_on(self, attempts, make, capsys):
        for _ in range(2):
            trainer = make("nnUNetTrainerALPR18")
        assert len(attempts) == 2
        said = [line for line in capsys.readouterr().out.splitlines() if "random weights" in line]
        assert len(said) == 1 and "resnet18 starts from random weights" in said[0] and attempts[0] in said[0]
        trainer.network.train()
        assert np.isfinite(trainer.train_step(batch_for(trainer))["loss"])

    def test_nothing_but_a_training_asks_for_weights(self, attempts, make, own_task):
        trainer = make("nnUNetTrainerCRTPR18", initialize=False)
        trainer.num_input_channels = 1
        trainer.build_network_architecture(trainer.plans_manager, trainer.configuration_manager, 1, 3, False)
        parameters, flops = own_task.cost(trainer)
        assert not attempts
        trainer.initialize()
        assert len(attempts) == 1
        assert parameters == sum(p.numel() for p in trainer.network.parameters())
        assert flops == own_task.counted_flops(trainer.network, 1, 1, *SIZE)

    def test_a_file_of_weights_is_a_class_attribute(self, attempts, make, tmp_path):
        torch.save(NarrowResNet18().state_dict(), tmp_path / "own.pth")

        class Own(trainers.nnUNetTrainerALPR18):
            weights = str(tmp_path / "own.pth")

        own = torch.load(tmp_path / "own.pth")
        assert torch.equal(make(Own).network.backbone.conv1.weight, own["conv1.weight"]) and not attempts


CASES = 5


@pytest.fixture
def write_dataset(nnunet_folders, make_plans, make_dataset_json, monkeypatch):
    """`(number, label_of)` → plans and dataset.json of a preprocessed dataset of five phantoms, whose label maps are
    what `label_of` makes of the true ones."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    monkeypatch.setattr(few_shot_base, "default_num_processes", 1)

    def write(number, label_of=lambda label, rng: label):
        plans = few_shot_plans(make_plans(channels=1, patch_size=SIZE, batch_size=1))
        plans["dataset_name"] = f"Dataset{number}_Organs"
        dataset_json = make_dataset_json(channels=1)
        base = nnunet_folders / "nnUNet_preprocessed" / plans["dataset_name"]
        folder = base / plans["configurations"]["2d"]["data_identifier"]
        folder.mkdir(parents=True)
        write_json({}, base / "dataset_fingerprint.json")
        for index in range(CASES):
            phantom = organ_phantom(np.random.default_rng(index), "mr", (12, 56, 64))
            image = (phantom.image - phantom.image.mean()) / phantom.image.std()
            label = np.where(phantom.label > 2, 0, phantom.label).astype(np.int16)
            label = label_of(label, np.random.default_rng(index))
            one = (1, 1, 56, 64)
            nnUNetDatasetBlosc2.save_case(image[None], label[None], {}, f"{folder}/case{index}", one, one)
        return plans, dataset_json

    return write


def shuffled(label, rng):
    return rng.permutation(label.ravel()).reshape(label.shape)


def trainer_on(dataset, name, initialize=True):
    plans, dataset_json = dataset
    torch.manual_seed(0)
    np.random.seed(0)
    trainer = getattr(trainers, name)(plans, "2d", 0, dataset_json, torch.device("cpu"))
    if initialize:
        trainer.initialize()
    return trainer


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nnUNetTrainerCRTPR18", pytest.param("nnUNetTrainerALPR18", marks=pytest.mark.slow)])
def test_a_training_with_shuffled_labels_has_identical_weights(write_dataset, name, assert_equal):
    trained = []
    for number, label_of in ((1, lambda label, rng: label), (2, shuffled)):
        trainer = trainer_on(write_dataset(number, label_of), f"{name}_2epochs_2its")
        start = deepcopy(trainer.network.state_dict())
        trainer.run_training()
        final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
        trained.append((final["network_weights"], final["optimizer_state"], final["logging"]))
        assert not torch.equal(start["backbone.conv1.weight"], final["network_weights"]["backbone.conv1.weight"])
    (first, first_optimizer, first_log), (second, second_optimizer, second_log) = trained
    weights = [{key: value for key, value in one.items() if not key.startswith(SUPPORT)} for one in (first, second)]
    assert_equal(*weights)
    assert_equal(first_optimizer, second_optimizer)
    for key in ("train_losses", "val_losses", "mean_fg_dice"):
        assert first_log[key] == second_log[key]
    key = "support.seg_layers.masks"
    assert not torch.equal(first[key], second[key]) and first[key].any() and second[key].any()


def test_support_is_of_the_training_cases_three_chunks_per_label_and_kept(write_dataset, tmp_path, capsys):
    trainer = trainer_on(write_dataset(1), "nnUNetTrainerPANetR18")
    trainer.on_train_start()
    training, validation = (list(cases) for cases in trainer.do_split())
    said = [line for line in capsys.readouterr().out.splitlines() if "Support: label" in line]
    assert len(said) == 2 and not any(f" {case} " in line for case in validation for line in said)
    support = trainer.network.support
    assert support.exists.all() and support.exists.shape == (2, 3, 1)
    dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, training)
    for label in (1, 2):
        case = next(case for case in training if f" {case} " in said[label - 1])
        data, segmentation, *_ = dataset.load_case(case)
        data, segmentation = np.asarray(data[0]), np.asarray(segmentation[0])
        shown = np.flatnonzero((segmentation == label).any((1, 2)))
        for chunk, fraction in enumerate((1 / 6, 1 / 2, 5 / 6)):
            index = shown[0] + int(fraction * (shown[-1] - shown[0] + 1) + 1e-9)
            np.testing.assert_array_equal(support.images[label - 1, chunk, 0, 0], on_patch(data[index], SIZE))
            mask = on_patch((segmentation[index] == label).astype(np.uint8), SIZE)
            np.testing.assert_array_equal(support.masks[label - 1, chunk, 0], mask)
            assert support.positions[label - 1, chunk, 0].item() == pytest.approx(index / 11)

    file = str(tmp_path / "checkpoint_latest.pth")
    trainer.save_checkpoint(file)
    before = deepcopy(support.state_dict())
    resumed = trainer_on(write_dataset(2, shuffled), "nnUNetTrainerPANetR18")
    resumed.load_checkpoint(file)
    resumed.on_train_start()
    for key, value in resumed.network.support.state_dict().items():
        assert torch.equal(value, before[key])


def test_weights_of_a_dataset_with_other_labels_are_taken_over_and_its_support_is_not(
    write_dataset, make, tmp_path, make_dataset_json
):
    there = with_support(make("nnUNetTrainerCRTPR18", kind="labels"))
    with torch.no_grad():
        there.network.backbone.project.weight.normal_()
    file = str(tmp_path / "checkpoint_final.pth")
    there.save_checkpoint(file)
    plans, dataset_json = write_dataset(1)
    dataset_json["labels"] = {"background": 0, "kidney": 1, "other_kidney": 2, "lung": 3}
    here = trainer_on((plans, dataset_json), "nnUNetTrainerCRTPR18")
    load_pretrained_weights(here.network, file)
    assert not here.network.support.exists.any()
    here.choose_support()
    assert here.network.support.exists.any((1, 2)).tolist() == [True, True, False]
    for (key, ours), theirs in zip(here.network.named_parameters(), there.network.parameters()):
        assert torch.equal(ours, theirs), key
    x = batch_for(here)["data"]
    logits = here.network.eval()(x)
    assert logits.shape == (1, 4, *SIZE) and (logits[:, 3] == -40).all()


def test_nnunets_own_folder_stays_nnunets_and_fold_all_has_all_cases(write_dataset, nnunet_folders):
    plans, dataset_json = write_dataset(1)
    trainer = trainers.nnUNetTrainerPANetR18_1epochs_2its(plans, "2d", "all", dataset_json, torch.device("cpu"))
    trainer.initialize()
    trainer.on_train_start()
    folder = Path(trainer.preprocessed_dataset_folder)
    assert {path.suffix for path in folder.iterdir()} == {".b2nd", ".pkl"}
    assert len(list(Path(f"{folder}_superpixels").glob("*/*.b2nd"))) == CASES
    assert trainer.network.support.exists.all()


def validated(trainer, monkeypatch):
    """Cases that nnU-Net's final validation and the protocol are about, with the former left out."""
    seen = {}

    def nnunets(trainer, save_probabilities):
        seen["nnU-Net"] = trainer.do_split()[1]

    def protocol(network, device, dataset, *others):
        seen["protocol"] = list(dataset.identifiers)
        return 0.5

    monkeypatch.setattr(few_shot_validation.XModalTrainer, "perform_actual_validation", nnunets)
    monkeypatch.setattr(few_shot_validation, "add_protocol", protocol)
    trainer.perform_actual_validation()
    return seen


def test_fold_all_does_not_score_the_scan_of_the_support(write_dataset, monkeypatch, capsys):
    plans, dataset_json = write_dataset(1)
    trainer = trainers.nnUNetTrainerPANetR18(plans, "2d", "all", dataset_json, torch.device("cpu"))
    trainer.initialize()
    trainer.choose_support()
    said = [line for line in capsys.readouterr().out.splitlines() if "Support: label" in line]
    (support,) = {case for case in (f"case{index}" for index in range(CASES)) if f" {case} " in "".join(said)}
    left = Path(trainer.output_folder) / "validation" / f"{support}.nii.gz"
    left.parent.mkdir(parents=True)
    left.touch()
    others = sorted(f"case{index}" for index in range(CASES) if f"case{index}" != support)
    seen = validated(trainer, monkeypatch)
    assert sorted(seen["nnU-Net"]) == sorted(seen["protocol"]) == others and not left.exists()
    assert f"Not validated, because the support is of them: {support}" in capsys.readouterr().out
    assert sorted(trainer.do_split()[1]) == sorted([*others, support])  # trained on as before


def test_other_folds_score_all_their_cases(write_dataset, monkeypatch):
    trainer = trainer_on(write_dataset(1), "nnUNetTrainerPANetR18")
    seen = validated(trainer, monkeypatch)
    assert seen["nnU-Net"] == seen["protocol"] == trainer.do_split()[1]


def test_where_the_support_is_all_there_is_it_is_scored_and_that_is_told(write_dataset, monkeypatch, capsys):
    plans, dataset_json = write_dataset(1)
    trainer = trainers.nnUNetTrainerPANetR18(plans, "2d", "all", dataset_json, torch.device("cpu"))
    trainer.initialize()
    monkeypatch.setattr(nnUNetTrainer, "do_split", lambda self: (["case1"], ["case1"]))
    assert validated(trainer, monkeypatch) == {"nnU-Net": ["case1"], "protocol": ["case1"]}
    assert "The support is of all validation cases" in capsys.readouterr().out


def test_a_fold_without_a_labelled_training_case_says_what_it_can_do(write_dataset, capsys):
    trainer = trainer_on(write_dataset(1, lambda label, rng: 0 * label), "nnUNetTrainerPANetR18")
    trainer.choose_support()
    said = capsys.readouterr().out
    assert said.count("no case shows it, it will not be predicted") == 2
    assert "none of the 4 training cases of fold 0 is labelled: nothing will be predicted but with" in said


@pytest.mark.parametrize("name", SMALL)
def test_its_predictor_knows_positions(make, name):
    assert make(name, initialize=False).predictor_class is FewShotPredictor
