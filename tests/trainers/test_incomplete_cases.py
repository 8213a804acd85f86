"""Training and validation on cases whose files are really absent."""

import json
from copy import deepcopy

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import one_fast_in
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as nnunet_trainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.of_present_streams import OfPresentStreams
from nnunet_xmodal.planners.present_channels import PreprocessorOfPresentChannels
from nnunet_xmodal.trainers.base.names import FOR_INCOMPLETE_CASES

CHANNELS_OF = {"whole_0": (0, 1), "whole_1": (0, 1), "first": (0,), "second": (1,), "first_too": (0,)}
SPLIT = [{"train": ["whole_0", "first", "second"], "val": ["whole_1", "first_too"]}]
MISSING = {"first": [1], "second": [0], "first_too": [1]}
TAKING = [name for name in trainers.TRAINERS if getattr(trainers, name).takes_incomplete_cases]
SEGMENTING = [name for name in TAKING if name != "nnUNetTrainerCMFTUnpaired"]


@pytest.fixture
def make(make_trainer, make_plans, make_dataset_json, nnunet_folders):
    """`name` → trainer on five cases, of which three were written and preprocessed without one of their files."""
    plans, dataset_json = make_plans(), make_dataset_json()
    raw, preprocessed = (
        nnunet_folders / folder / "Dataset999_Tiny" for folder in ("nnUNet_raw", "nnUNet_preprocessed")
    )
    (preprocessed / "nnUNetPlans_2d").mkdir(parents=True)
    raw.mkdir()
    (preprocessed / "splits_final.json").write_text(json.dumps(SPLIT))
    rng = np.random.default_rng(0)
    manager, preprocessor = PlansManager(plans), PreprocessorOfPresentChannels(verbose=False)
    preprocessor.configuration_name = "2d"
    for case, channels in CHANNELS_OF.items():
        label = str(raw / f"{case}.nii.gz")
        sitk.WriteImage(sitk.GetImageFromArray(rng.integers(0, 3, (3, 20, 24)).astype(np.uint8)), label)
        images = [str(raw / f"{case}_{channel:04d}.nii.gz") for channel in channels]
        for file in images:
            sitk.WriteImage(sitk.GetImageFromArray(rng.normal(50, 9, (3, 20, 24)).astype(np.float32)), file)
        output = str(preprocessed / "nnUNetPlans_2d" / case)
        preprocessor.run_case_save(output, images, label, manager, manager.get_configuration("2d"), dataset_json)
    return lambda name: make_trainer(name, deepcopy(plans), dataset_json)


def batch_of(trainer, cases):
    """A patch of each, as the loader hands them out."""
    patches = [trainer.dataset_class(trainer.preprocessed_dataset_folder, [case]).load_case(case) for case in cases]
    data = torch.stack([torch.from_numpy(np.array(data[:, 1, :16, :16])) for data, *_ in patches])
    label = torch.stack([torch.from_numpy(np.array(label[:, 1, :16, :16])) for _, label, *_ in patches])
    levels = [label.clamp(min=0), label.clamp(min=0)[:, :, ::2, ::2]]
    return {"data": data, "target": levels if trainer.enable_deep_supervision else levels[0], "keys": cases}


def test_trainers_that_take_incomplete_cases_are_those_that_others_name():
    usual = {f"nnUNetTrainer{name}" for name in ("AnyStreams", "mmFormer", "ZeroFill", "CMFTUnpaired")}
    assert {name for name in TAKING if not name.endswith("Dropout")} == {*usual, "nnUNetTrainerAnyStreamsDistilled"}
    assert set(TAKING) >= {name for name in trainers.TRAINERS if name.endswith("Dropout")}
    assert all(name in FOR_INCOMPLETE_CASES for name in usual)


@pytest.mark.parametrize("name", one_fast_in(3, SEGMENTING))
def test_what_an_absent_channel_holds_teaches_nothing(make, name):
    """Augmentation adds noise to it. Exactly: loss, weights and the numbers of a validation step."""
    trainer = make(name)
    trainer.get_tr_and_val_datasets()
    assert trainer.missing == MISSING
    before = deepcopy((trainer.network.state_dict(), trainer.optimizer.state_dict()))
    batch = batch_of(trainer, ["first", "second"])
    assert all(not batch["data"][number, absent].any() for number, absent in ((0, 1), (1, 0)))

    def step(channel, content):
        trainer.network.load_state_dict(before[0])
        trainer.optimizer.load_state_dict(before[1])
        changed = {**batch, "data": batch["data"].clone()}
        changed["data"][1, channel] += content
        torch.manual_seed(1)  # what is dropped
        trainer.network.train()
        loss = float(trainer.train_step(deepcopy(changed))["loss"])
        weights = deepcopy(trainer.network.state_dict())
        trainer.network.eval()
        with torch.no_grad():
            return loss, weights, trainer.validation_step(deepcopy(changed))

    noise = 100 * torch.randn(16, 16)
    (loss, weights, validated), (same_loss, same, validated_too) = step(0, 0), step(0, noise)
    assert np.isfinite(loss) and loss == same_loss
    assert all(torch.equal(value, same[key]) for key, value in weights.items())
    assert all(np.array_equal(value, validated_too[key]) for key, value in validated.items())
    other_loss, other, _ = step(1, noise)
    assert other_loss != loss and not all(torch.equal(value, other[key]) for key, value in weights.items())
    assert trainer.plain_network is trainer.network and "present" not in "".join(weights)


@pytest.mark.parametrize("name", ["nnUNetTrainerMultiStream", "nnUNetTrainerCMFTPaired", "nnUNetTrainerStream0"])
def test_trainers_that_need_everything_name_those_that_do_not(make, name):
    trainer = make(name)
    sentence = r"needs every channel, and 3 cases lack some \(first has no T1c\): train nnUNetTrainerAnyStreams, nnUN"
    with pytest.raises(XModalError, match=f"{name} {sentence}"):
        trainer.get_tr_and_val_datasets()
    complete = [{"train": ["whole_0"], "val": ["whole_1"]}]
    with open(f"{trainer.preprocessed_dataset_folder_base}/splits_final.json", "w") as file:
        json.dump(complete, file)
    trainer.get_tr_and_val_datasets()
    assert trainer.missing == {}


@pytest.mark.parametrize("name", ["nnUNetTrainerCSADDropout", "nnUNetTrainerCMFFDropout", "nnUNetTrainerZeroFill"])
def test_validation_predicts_a_case_by_what_it_has(make, name):
    """As nnUNetXModal_predict --allow_missing does, with nnU-Net's own loop over cases that knows of no absence."""
    trainer = make(name)
    trainer.set_deep_supervision_enabled(False)
    network, described = trainer.network.eval(), (trainer.plans_manager, trainer.configuration_manager)
    described = (*described, None, trainer.dataset_json, name, None)
    options = {"use_mirroring": False, "device": torch.device("cpu"), "allow_tqdm": False}
    with trainer.validating():
        predictor = nnunet_trainer.nnUNetPredictor(**options)
        predictor.manual_initialization(network, *described)
        dataset = trainer.dataset_class(trainer.preprocessed_dataset_folder, ["first_too", "whole_1"])
        loaded = {case: np.array(dataset.load_case(case)[0][:]) for case in dataset.identifiers}
        said = {
            case: predictor.predict_sliding_window_return_logits(torch.from_numpy(data))
            for case, data in loaded.items()
        }
    assert np.isnan(loaded["first_too"][1]).all() and np.isfinite(loaded["first_too"][0]).all()
    assert nnunet_trainer.nnUNetPredictor is nnUNetPredictor

    plain = nnUNetPredictor(**options)
    for case, reader, channels in (
        ("whole_1", network, [0, 1]),
        ("first_too", OfPresentStreams(network, [0], 2, [True, False]), [0]),
    ):
        plain.manual_initialization(reader, *described)
        expected = plain.predict_sliding_window_return_logits(torch.from_numpy(loaded[case][channels]))
        assert torch.equal(said[case], expected)


def test_a_report_on_attention_is_about_complete_cases(make, monkeypatch):
    trainer = make("nnUNetTrainerCSADDropout")
    trainer.get_tr_and_val_datasets()
    batches = iter(
        [batch_of(trainer, cases) for cases in (["first", "second"], ["whole_0", "first"]) for _ in range(20)]
    )
    trainer.dataloader_train = batches
    data, levels = trainer._samples()
    whole = batch_of(trainer, ["whole_0"])
    assert torch.equal(data, whole["data"].expand(4, -1, -1, -1))
    assert torch.equal(levels[0], whole["target"][0].expand(4, -1, -1, -1))
    trainer.dataloader_train = iter([batch_of(trainer, ["first", "second"])] * 30)
    said = []
    monkeypatch.setattr(trainer, "print_to_log_file", lambda *words, **options: said.append(words))
    trainer._report_attention("start", trainer._samples())
    assert "too few cases have all streams" in said[0][0]


def test_a_pair_of_generators_learns_each_stream_from_cases_that_have_it(make, monkeypatch):
    trainer = make("nnUNetTrainerCMFTUnpaired")
    training, validation = trainer.get_tr_and_val_datasets()
    assert list(validation.identifiers) == ["whole_1"]  # what is made needs something to be measured by
    loader = trainer.make_loader(training, trainer.configuration_manager.patch_size, None)
    pairs = {pair for _ in range(40) for pair in zip(*np.split(np.array(loader.get_indices()), 2))}
    assert pairs == {("whole_0", "second"), ("first", "whole_0"), ("first", "second")}

    measured = []
    monkeypatch.setattr(
        "nnunet_xmodal.trainers.base.synthesis.validate_synthesis",
        lambda predictor, dataset, cases, *others: measured.append((list(dataset.identifiers), cases)) or {},
    )
    _, cases = trainer.do_split()
    trainer.validate(trainer.dataset_class(trainer.preprocessed_dataset_folder, cases), cases)
    assert measured == [(["whole_1"], ["whole_1"])]
    with pytest.raises(XModalError, match="none of the 1 validation cases of this fold has both streams"):
        trainer.validate(trainer.dataset_class(trainer.preprocessed_dataset_folder, ["first"]), ["first"])


def test_a_case_without_a_whole_stream_is_named_and_so_are_cohorts_without_a_complete_case(make):
    trainer = make("nnUNetTrainerAnyStreams")
    split = f"{trainer.preprocessed_dataset_folder_base}/splits_final.json"
    with open(split, "w") as file:
        json.dump([{"train": ["first", "second"], "val": ["whole_1"]}], file)
    with pytest.raises(XModalError, match="no training case of this fold is complete, and nnUNetTrainerAnyStreams has"):
        trainer.get_tr_and_val_datasets()
    with open(split, "w") as file:
        json.dump(SPLIT, file)
    trainer.plans_manager.plans["xmodal"]["streams"] = [[0, 1]]
    with pytest.raises(XModalError, match=r"case first lacks T1c, so that none of the streams T1\+T1c is whole"):
        trainer.get_tr_and_val_datasets()
