"""Few-shot trainings on a preprocessed dataset: no label reaches a weight, and which cases are the support."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from few_shot_episodes import SIZE, batch_for, few_shot_plans, with_support
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.phantoms.organs import organ_phantom
from nnunet_xmodal.tasks.few_shot.episodes import on_patch
from nnunet_xmodal.trainers.base import few_shot as few_shot_base
from nnunet_xmodal.trainers.base import few_shot_validation

SUPPORT = "support."


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
