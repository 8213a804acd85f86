"""Prediction and the paper's protocol with a stand-in backbone whose features are the intensities themselves."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.predict import predict
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor
from nnunet_xmodal.tasks.few_shot.support import fill_support, labels_to_segment
from nnunet_xmodal.tasks.few_shot.validation import METRIC, add_protocol, protocol_dice
from nnunet_xmodal.trainers.base import few_shot as few_shot_base

DATASET, PLANS, TRAINER, SIZE = "Dataset999_Tiny", "nnUNetFewShotPlans", "nnUNetTrainerPANetR18", (64, 64)
TISSUE = 1  # every image has it around its organs, so that nothing is cropped
VALUES = 8


class IdealBackbone(nn.Module):
    """One feature per intensity, at full resolution; `tint` is a weight, which changes nothing."""

    def __init__(self, name, channels, weights=None):
        super().__init__()
        self.features = VALUES
        self.tint = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return self.tint * torch.stack([x[:, 0].round() == value for value in range(VALUES)], 1).float()


@pytest.fixture(autouse=True)
def ideal(monkeypatch):
    monkeypatch.setattr(few_shot_base, "ResNetBackbone", IdealBackbone)


def scan(*organs, slices=6, size=SIZE):
    """`(slices, H, W)` with boxes of the given values one beside the other, through all slices."""
    volume = np.full((slices, *size), TISSUE, np.float32)
    for place, value in enumerate(organs):
        volume[:, 8:40, 4 + 20 * place : 20 + 20 * place] = value
    return volume


class InMemory:
    """As much of nnU-Net's dataset as is asked for; the label map follows from the image."""

    def __init__(self, *volumes, label_of=lambda volume: volume - TISSUE):
        self.volumes, self.label_of = volumes, label_of
        self.identifiers = [f"case{index}" for index in range(len(volumes))]

    def load_case(self, case):
        volume = self.volumes[self.identifiers.index(case)]
        return volume[None], np.maximum(self.label_of(volume), 0).astype(np.int16)[None], None, {}


@pytest.fixture
def make_model(write_model, make_plans, make_dataset_json):
    """`(kind, *supports, channels, labels)` → folder of a model with a fold for each support, a dataset in memory."""

    def make(*supports, kind="labels", channels=1, tints=(1.0,) * 5):
        plans = make_plans(2, channels=channels, patch_size=SIZE)
        plans["plans_name"] = PLANS
        dataset_json = make_dataset_json(kind, channels)
        configuration = plans["configurations"]["2d"]
        configuration["normalization_schemes"] = ["NoNormalization"] * channels
        configuration["architecture"] = {
            "network_class_name": "nnunet_xmodal.networks.prototype_network.PrototypeNetwork",
            "arch_kwargs": {"size": list(SIZE), "chunks": 3, "shots": 1},
            "_kw_requires_import": [],
        }
        plans["xmodal"] = {"streams": [[c] for c in range(channels)], "regions": kind.startswith("regions")}
        manager = PlansManager(plans)
        labels = manager.get_label_manager(dataset_json)
        build = (manager, manager.get_configuration("2d"), channels, labels.num_segmentation_heads, False)
        networks = [trainers.nnUNetTrainerPANetR18.build_network_architecture(*build) for _ in supports]
        for network, support, tint in zip(networks, supports, tints):
            nn.init.constant_(network.backbone.tint, tint)
            if support is not None:
                fill_support(network, support, labels)
        return write_model(TRAINER, plans, dataset_json, networks)

    return make


def write_json_in(folder: Path, name: str, content: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(content, folder / name)


def write(folder: Path, name: str, volume: np.ndarray, spacing: float = 1.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((spacing, spacing, 3.0))
    sitk.WriteImage(image, str(folder / name))


@pytest.fixture
def write_support(tmp_path):
    """`(labels, volumes, label_of)` → a folder for --support."""

    def make(labels, *volumes, label_of, channels=1, ending=".nii.gz", spacing=1.0, **more):
        folder = tmp_path / "support"
        described = {
            "channel_names": {str(index): f"MR{index}" for index in range(channels)},
            "labels": {"background": 0, **labels},
            "numTraining": len(volumes),
            "file_ending": ending,
        }
        write_json_in(folder, "dataset.json", described | more)
        for index, volume in enumerate(volumes):
            for channel in range(channels):
                write(folder / "imagesTr", f"own{index}_{channel:04d}{ending}", volume, spacing)
            write(folder / "labelsTr", f"own{index}{ending}", label_of(volume).astype(np.uint8), spacing)
        return folder

    return make


def run(tmp_path, volume, *flags, folds=(0,), channels=1, spacing=1.0):
    """Predicts one scan and reads the result."""
    for channel in range(channels):
        write(tmp_path / "in", f"anna_{channel:04d}.nii.gz", volume, spacing)
    args = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
    args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", *folds, *flags]
    predict(request_of(parser().parse_args([str(word) for word in args])))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz")))


def stock(folder, tmp_path, folds=(0,)):
    """The same with nnU-Net's own predictor."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    (tmp_path / "stock").mkdir(exist_ok=True)
    predictor.predict_from_files_sequential([[str(tmp_path / "in" / "anna_0000.nii.gz")]], str(tmp_path / "stock"))
    return sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "stock" / "anna.nii.gz")))


def ordered(volume):
    """A support whose first organ is another tissue in every third of its slices: 2, then 4, then 5."""
    label = np.zeros(volume.shape)
    for chunk, value in enumerate((2, 4, 5)):
        part = slice(chunk * len(volume) // 3, (chunk + 1) * len(volume) // 3)
        label[part] = volume[part] == value
    return label


def test_all_labels_of_the_dataset_are_segmented_at_once(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)))
    volume = scan(3, 4, 2)
    expected = np.where(volume == 2, 1, np.where(volume == 3, 2, 0))
    for match in ("position", "best"):
        np.testing.assert_array_equal(run(tmp_path, volume, "--match", match), expected)


def test_position_asks_the_chunk_there_and_best_asks_all(make_model, tmp_path):
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    volume = scan(2, 4, 5, slices=9)
    expected = np.zeros(volume.shape)
    for index in range(9):  # support slices 1, 3 and 5 of 6
        nearest = min((1, 2), (3, 4), (5, 5), key=lambda shown: abs(shown[0] / 5 - index / 8))
        expected[index] = volume[index] == nearest[1]
    np.testing.assert_array_equal(run(tmp_path, volume), expected)
    np.testing.assert_array_equal(run(tmp_path, volume, "--match", "position"), expected)
    best = run(tmp_path, volume, "--match", "best")
    np.testing.assert_array_equal(best, volume > TISSUE)
    np.testing.assert_array_equal(stock(folder, tmp_path), best)


def store_along(folder: Path, code: str) -> None:
    """Every image of a folder, and of those in it, along other axes; voxels stay where they are in the patient."""
    for file in sorted(folder.rglob("*.nii.gz")):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), code), str(file))


def run_along(code, tmp_path, volume, *flags):
    """As `run`, of the scan stored along other axes; the result as it lies in the patient, and how it is stored."""
    run(tmp_path, volume, *flags)
    store_along(tmp_path / "in", code)
    args = ["-i", tmp_path / "in", "-o", tmp_path / "again", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
    args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", 0, *flags]
    predict(request_of(parser().parse_args([str(word) for word in args])))
    scanned, found = (sitk.ReadImage(str(tmp_path / name)) for name in ("in/anna_0000.nii.gz", "again/anna.nii.gz"))
    assert found.GetSize() == scanned.GetSize() and np.allclose(found.GetDirection(), scanned.GetDirection())
    assert np.allclose(found.GetOrigin(), scanned.GetOrigin())
    return sitk.GetArrayFromImage(sitk.DICOMOrient(found, "LPS"))


@pytest.mark.parametrize("code", ["LPI", "RAS", "PSR", "SAL"])
@pytest.mark.parametrize("known_by", ["validation", "plans", "dataset"])
def test_a_scan_may_be_stored_along_any_axes(make_model, tmp_path, code, known_by):
    """From feet to head or from head to feet: positions run along the patient."""
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    if known_by == "validation":
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
    else:
        file, key = ("plans", "stored_axes") if known_by == "plans" else ("dataset", "orientation")
        content = json.loads((folder / f"{file}.json").read_text())
        content["xmodal"] = {**content.get("xmodal", {}), key: "LPS"}
        write_json_in(folder, f"{file}.json", content)
    volume = scan(2, 4, 5, slices=9)
    again = run_along(code, tmp_path, volume)
    expected = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz")))
    assert not np.array_equal(expected, expected[::-1])
    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("code, known", [("LPI", False), ("RAI", False), ("LPI", True), ("PSR", True)])
def test_a_support_may_be_stored_along_any_axes(make_model, write_support, tmp_path, code, known):
    """From either end also where nobody knows how the model's own cases lay."""
    folder = make_model(InMemory(scan(2, 3)))
    if known:
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
    support = write_support({"organ": 1}, scan(2, 4, 5), label_of=ordered)
    volume = scan(2, 4, 5, slices=9)
    expected = run(tmp_path, volume, "--support", support)
    store_along(support, code)
    np.testing.assert_array_equal(run(tmp_path, volume, "--support", support), expected)
    np.testing.assert_array_equal(run_along("RAI", tmp_path, volume, "--support", support), expected)


def test_unknown_axes_are_told(make_model, tmp_path, capsys):
    make_model(InMemory(scan(2, 3)))
    run(tmp_path, scan(2, 3))
    assert "not known along which axes the model's training cases were stored" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(48, 52), (64, 100), (90, 70)], ids=str)
def test_scans_smaller_and_larger_than_a_patch(make_model, tmp_path, size):
    folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
    volume = np.full((3, *size), TISSUE, np.float32)
    for place, value in enumerate((2, 4, 5)):
        volume[:, 10:40, 16 * place : 16 * place + 12] = value
        volume[:, -6:, 16 * place : 16 * place + 12] = value
    expected = np.stack([volume[index] == value for index, value in enumerate((2, 4, 5))])
    np.testing.assert_array_equal(run(tmp_path, volume), expected)
    best = run(tmp_path, volume, "--match", "best")
    np.testing.assert_array_equal(best, volume > TISSUE)
    np.testing.assert_array_equal(stock(folder, tmp_path), best)


def test_a_failure_leaves_the_network_as_it_was(make_model, tmp_path):
    folder = make_model(InMemory(scan(2, 3)))
    predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (0,))
    network = predictor.network
    data = torch.ones(1, 3, *SIZE)
    expected = predictor.predict_sliding_window_return_logits(data)
    data[:, 1] = float("nan")
    with pytest.raises(XModalError, match="NaN or infinite"):
        predictor.predict_sliding_window_return_logits(data)
    assert predictor.network is network
    data[:, 1] = 1
    assert torch.equal(predictor.predict_sliding_window_return_logits(data), expected)


def test_probabilities_are_of_all_labels_and_sum_to_one(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)))
    segmentation = run(tmp_path, scan(3, 2), "--save_probabilities")
    probabilities = np.load(tmp_path / "out" / "anna.npz")["probabilities"]
    assert probabilities.shape == (3, *segmentation.shape)
    np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-3)
    np.testing.assert_array_equal(probabilities.argmax(0), segmentation)


def test_regions_overlap(make_model, tmp_path):
    make_model(InMemory(scan(2, 3)), kind="regions")  # whole [1, 2], tumour 2
    volume = scan(2, 3, 4)
    np.testing.assert_array_equal(run(tmp_path, volume), np.where(volume == 2, 1, np.where(volume == 3, 2, 0)))


class TestSupport:
    """Of classes that the model never saw."""

    def test_classes_never_seen_under_names_of_their_own_and_the_model_stays(self, make_model, write_support, tmp_path):
        folder = make_model(InMemory(scan(2, 3)))
        checkpoint = folder / "fold_0" / "checkpoint_final.pth"
        before = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        labels = {"cyst": 1, "stone": 2, "stent": 3}
        support = write_support(labels, scan(6, 4, 5), label_of=lambda volume: np.maximum(volume - 3, 0))
        volume = scan(5, 2, 6)
        found = run(tmp_path, volume, "--support", support)
        np.testing.assert_array_equal(found, np.where(volume == 5, 2, np.where(volume == 6, 3, 0)))
        written = json.loads((tmp_path / "out" / "dataset.json").read_text())
        assert written["labels"] == {"background": 0, **labels}
        assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == before
        np.testing.assert_array_equal(run(tmp_path, scan(2, 3)), scan(2, 3) - TISSUE)

    def test_two_cases_are_two_shots_and_a_label_may_be_in_one_of_them(self, make_model, write_support):
        support = write_support(
            {"a": 1, "b": 2, "c": 3}, scan(4, 5), scan(4, 6), label_of=lambda volume: np.maximum(volume - 3, 0)
        )
        predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(make_model(InMemory(scan(2, 3)))), (0,))
        own = {key: value.clone() for key, value in predictor.network.state_dict().items()}
        lines = predictor.use_support(support, progress=False)
        network = predictor.network
        assert (network.labels, network.shots) == (3, 2) and network.support.exists.all()
        assert "own0" in lines[0] and "own1" in lines[0] and "own1" not in lines[1] and "own0" not in lines[2]
        for key, value in network.state_dict().items():
            assert key.startswith("support.") or torch.equal(value, own[key])
        volume = scan(6, 4, 5)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(volume)[None])
        np.testing.assert_array_equal(logits.argmax(0).numpy(), np.maximum(volume - 3, 0))

    def test_folds_are_averaged_each_with_its_own_weights(self, make_model, write_support, tmp_path):
        folder = make_model(InMemory(scan(2, 3)), InMemory(scan(3, 2)), tints=(1.0, 2.0))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        found = run(tmp_path, scan(2, 5), "--support", support, folds=(0, 1))
        np.testing.assert_array_equal(found, scan(2, 5) == 5)
        predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), (0, 1))
        predictor.use_support(support, progress=False)
        assert [parameters["backbone.tint"].item() for parameters in predictor.list_of_parameters] == [1, 2]
        first, second = predictor.list_of_parameters
        assert all(torch.equal(first[key], second[key]) for key in first if key.startswith("support."))

    def test_regions(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support(
            {"whole": [1, 2], "core": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0),
            regions_class_order=[1, 2],
        )  # fmt: skip
        volume = scan(2, 5, 4)
        found = run(tmp_path, volume, "--support", support)
        np.testing.assert_array_equal(found, np.maximum(volume - 3, 0))
        assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]["whole"] == [1, 2]

    def test_an_ignore_label_is_no_class(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support(
            {"stone": 1, "ignore": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0)
        )
        np.testing.assert_array_equal(run(tmp_path, scan(5, 4), "--support", support), scan(5, 4) == 4)

    @pytest.mark.parametrize("size, spacing", [((40, 50), 1.0), ((32, 32), 2.0), ((100, 90), 1.0)], ids=str)
    def test_a_support_of_another_size_spacing_and_format(self, make_model, write_support, tmp_path, size, spacing):
        make_model(InMemory(scan(2, 3)))
        volume = np.full((4, *size), TISSUE, np.float32)
        rows, columns = (slice(side // 2 - 8, side // 2 + 8) for side in size)
        volume[:, rows, columns] = 5
        support = write_support(
            {"stone": 1}, volume, label_of=lambda volume: volume == 5, ending=".mha", spacing=spacing
        )
        truth = scan(2, 5) == 5
        found = run(tmp_path, scan(2, 5), "--support", support)
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.99

    def test_a_label_that_no_case_shows_is_told_and_not_predicted(self, make_model, write_support, tmp_path, capsys):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1, "stent": 2}, scan(5), label_of=lambda volume: volume == 5)
        np.testing.assert_array_equal(run(tmp_path, scan(6, 5), "--support", support), scan(6, 5) == 5)
        said = capsys.readouterr().out
        assert "Support: label 2: no case shows it, it will not be predicted" in said
        assert "Support: label 1: own0 slice 1, own0 slice 3, own0 slice 5" in said

    def refused(self, support, sentence, tmp_path, channels=1):
        with pytest.raises(XModalError, match=sentence):
            run(tmp_path, scan(2, 3), "--support", support, channels=channels)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("missing", ["dataset.json", "imagesTr", "labelsTr"])
    def test_an_incomplete_folder(self, make_model, write_support, tmp_path, missing):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        (support / missing).rename(tmp_path / "elsewhere")
        self.refused(support, f"{missing} is missing: --support takes a folder like a raw dataset", tmp_path)

    @pytest.mark.parametrize(
        "change, sentence",
        [
            ({"labels": {"background": 0}}, "names no label but background: name what is to be segmented"),
            ({"labels": {"background": 0, "ignore": 1}}, "names no label but background: name what"),
            ({"numTraining": 3}, "says numTraining 3 but .* holds 1 cases"),
            ({"channel_names": None}, 'has no "channel_names", which nnU-Net needs'),
        ],
    )
    def test_a_description_that_does_not_fit(self, make_model, write_support, tmp_path, change, sentence):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        described = json.loads((support / "dataset.json").read_text()) | change
        described = {key: value for key, value in described.items() if value is not None}
        (support / "dataset.json").write_text(json.dumps(described))
        self.refused(support, sentence, tmp_path)

    def test_a_broken_description(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        (support / "dataset.json").write_text("{")
        self.refused(support, "is not valid JSON", tmp_path)

    def test_empty_masks(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=np.zeros_like)
        self.refused(support, "no case of .*support shows any of its labels: label one", tmp_path)

    def test_a_value_that_no_label_has(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: 7 * (volume == 5))
        self.refused(support, "own0.nii.gz holds the label 7, which dataset.json does not name", tmp_path)

    def test_other_channels(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5, channels=2)
        self.refused(support, r"has 2 channels and the model reads 1 \(T1\): support and images need", tmp_path)

    def test_nan(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        volume = scan(5)
        volume[0, 0, 0] = np.nan
        support = write_support({"stone": 1}, volume, label_of=lambda volume: volume == 5)
        self.refused(support, "own0_0000.nii.gz holds NaN or infinite voxels", tmp_path)


def table(tmp_path, *rows, separator=","):
    file = tmp_path / "extents.csv"
    file.write_text("\n".join(separator.join(map(str, row)) for row in (("case", "label", "first", "last"), *rows)))
    return file


def within(volume, first, last):
    """What `ordered` supports find between two slices, by thirds of these."""
    expected = np.zeros(volume.shape)
    for index in range(first, last + 1):
        value = (2, 4, 5)[(2 * (index - first) + 1) * 3 // (2 * (last - first + 1))]
        expected[index] = volume[index] == value
    return expected


class TestExtents:
    """Organs whose first and last slice are known."""

    @pytest.fixture
    def label(self, make_model):
        folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
        return next(name for name, value in json.loads((folder / "dataset.json").read_text())["labels"].items()
                    if value == 1)  # fmt: skip

    @pytest.mark.parametrize(
        "match, processes", [("position", 0), ("best", 0), pytest.param("best", 1, marks=pytest.mark.slow)]
    )
    def test_an_organ_is_sought_there_alone_by_its_thirds(self, label, tmp_path, match, processes):
        volume = scan(2, 4, 5, slices=9)
        flags = ["--match", match, "--extents", table(tmp_path, ("anna", label, 3, 8)), "-npp", processes]
        found = run(tmp_path, volume, *flags, "-nps", processes)
        np.testing.assert_array_equal(found, within(volume, 3, 8))

    def test_slices_are_those_of_the_file_whichever_way_it_is_stored(self, label, tmp_path):
        volume = scan(2, 4, 5, slices=9)
        run(tmp_path, volume)
        store_along(tmp_path / "in", "RAI")
        args = ["-i", tmp_path / "in", "-o", tmp_path / "again", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
        args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", 0]
        args += ["--extents", table(tmp_path, ("anna", label, 0, 5), separator=";")]
        predict(request_of(parser().parse_args([str(word) for word in args])))
        again = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "again" / "anna.nii.gz")), "LPS")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(again), within(volume, 3, 8))

    def test_others_are_found_as_without_a_table(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"a": 1, "b": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0))
        volume = scan(5, 4, slices=6)
        expected = np.maximum(volume - 3, 0)
        expected[3:][expected[3:] == 2] = 0
        for name in ("b", 2):
            extents = table(tmp_path, ("anna", name, 0, 2))
            found = run(tmp_path, volume, "--support", support, "--extents", extents)
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        "row, sentence",
        [
            (("bob", "T", 1, 2), "line 2 of .*extents.csv names the case 'bob', which is not among the images"),
            (("anna", "liver", 1, 2), "line 2 of .*extents.csv names the label 'liver': take one of"),
            (("anna", "T", 3, 2), "has the slices '3' to '2': give the numbers of the first and the last slice"),
            (("anna", "T", -1, 2), "has the slices '-1' to '2': give the numbers"),
            (("anna", "T", 1, 2.5), "has the slices '1' to '2.5': give the numbers"),
            (("anna", "T", 1, 6), "from slice 1 to 6, but .*anna_0000.nii.gz has 6 slices, 0 to 5"),
        ],
    )
    def test_a_wrong_table_is_a_sentence_before_anything_is_written(self, label, tmp_path, row, sentence):
        row = tuple(label if cell == "T" else cell for cell in row)
        with pytest.raises(XModalError, match=sentence):
            run(tmp_path, scan(2, 4), "--extents", table(tmp_path, row))
        assert not (tmp_path / "out").exists()

    def test_an_organ_given_twice_and_no_table(self, label, tmp_path):
        with pytest.raises(XModalError, match="line 3 of .* gives 1 of anna a second time: delete one"):
            run(tmp_path, scan(2, 4), "--extents", table(tmp_path, ("anna", label, 1, 2), ("anna", 1, 1, 2)))
        (tmp_path / "extents.csv").write_text("case,label,from,to")
        with pytest.raises(XModalError, match="has no column first: its first line has to name case, label, first"):
            run(tmp_path, scan(2, 4), "--extents", tmp_path / "extents.csv")


def with_crumbs(volume):
    """Small pieces of both organs elsewhere."""
    crumbs = volume.copy()
    crumbs[0, 50:53, 50:53], crumbs[-1, 55:58, 10:13] = 2, 3
    return crumbs


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("match", ["position", "best"])
def test_the_largest_component_of_every_label(make_model, tmp_path, match, kind):
    make_model(InMemory(scan(2, 3)), kind=kind)
    volume = scan(2, 3)
    plain, crumbs = run(tmp_path, volume, "--match", match), run(tmp_path, with_crumbs(volume), "--match", match)
    assert not np.array_equal(plain, crumbs)
    kept = run(tmp_path, with_crumbs(volume), "--match", match, "--largest_component")
    np.testing.assert_array_equal(kept, plain)


@pytest.mark.parametrize(
    "flags", [["--support", "."], ["--match", "best"], ["--extents", "x"], ["--largest_component"]]
)
def test_other_models_do_not_know_these_flags(nnunet_folders, tmp_path, make_model, flags):
    folder = make_model(InMemory(scan(2, 3)))
    folder.rename(folder.with_name(f"nnUNetTrainerCSAD__{PLANS}__2d"))
    file = folder.with_name(f"nnUNetTrainerCSAD__{PLANS}__2d") / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=False), "trainer_name": "nnUNetTrainerCSAD"}, file)
    with pytest.raises(XModalError, match=f"{flags[0]} does not apply to models of nnUNetTrainerCSAD"):
        run(tmp_path, scan(2, 3), "-tr", "nnUNetTrainerCSAD", *flags)


@pytest.fixture
def network_for(make_plans, make_dataset_json):
    """`(support, kind)` → network that holds it, and the label manager."""

    def make(support, kind="labels"):
        plans = make_plans(2, channels=1, patch_size=SIZE)
        plans["xmodal"] = {"regions": kind.startswith("regions")}
        arguments = {"size": list(SIZE), "chunks": 3, "shots": 1}
        plans["configurations"]["2d"]["architecture"]["arch_kwargs"] = arguments
        manager = PlansManager(plans)
        labels = manager.get_label_manager(make_dataset_json(kind, 1))
        network = trainers.nnUNetTrainerPANetR18.build_network_architecture(
            manager, manager.get_configuration("2d"), 1, labels.num_segmentation_heads, False
        )
        fill_support(network, support, labels)
        return network.eval(), labels

    return make


def dice_of(network, labels, dataset, case="case0"):
    return protocol_dice(
        network, torch.device("cpu"), dataset, case, labels_to_segment(labels), labels.ignore_label
    )  # fmt: skip


class TestProtocol:
    def test_an_ideal_network_has_a_dice_of_1(self, network_for):
        dataset = InMemory(scan(2, 3, slices=11))
        network, labels = network_for(dataset)
        assert dice_of(network, labels, dataset) == {"1": 1.0, "2": 1.0}

    def test_regions_are_measured_as_regions(self, network_for):
        dataset = InMemory(scan(2, 3))
        network, labels = network_for(dataset, "regions")
        assert dice_of(network, labels, dataset) == {"(1, 2)": 1.0, "2": 1.0}

    def test_an_organ_that_a_case_does_not_show_is_nan(self, network_for):
        network, labels = network_for(InMemory(scan(2, 3)))
        found = dice_of(network, labels, InMemory(scan(3)))
        assert np.isnan(found["1"]) and found["2"] == 1

    def test_an_organ_without_support_is_not_found(self, network_for):
        network, labels = network_for(InMemory(scan(2)))
        assert dice_of(network, labels, InMemory(scan(2, 3))) == {"1": 1.0, "2": 0.0}

    def test_slices_outside_of_the_organs_extent_are_not_scored(self, network_for):
        """There the network is wrong; a gap inside counts."""
        volume = scan(2, 3, slices=10)

        def label_of(hidden):
            def only(volume):
                label = volume - TISSUE
                label[hidden] = 0
                return label

            return only

        network, labels = network_for(InMemory(volume))
        assert dice_of(network, labels, InMemory(volume, label_of=label_of([0, 1, 8, 9]))) == {"1": 1.0, "2": 1.0}
        gap = dice_of(network, labels, InMemory(volume, label_of=label_of([4])))
        assert gap == pytest.approx({"1": 18 / 19, "2": 18 / 19})

    def test_the_chunk_is_that_of_the_organ_and_not_of_the_scan(self, network_for):
        """Support and query have the organ in different parts of their scans."""
        support = np.concatenate((scan(2, 4, 5), scan(slices=6)))
        query = np.concatenate((scan(slices=9), scan(2, 4, 5, slices=9)))

        def within(begin, end):
            def label_of(volume):
                label = np.zeros(volume.shape)
                label[begin:end] = ordered(volume[begin:end])
                return label

            return label_of

        network, labels = network_for(InMemory(support, label_of=within(0, 6)))
        assert dice_of(network, labels, InMemory(query, label_of=within(9, 18)))["1"] == 1

    def test_ignored_pixels_are_not_scored(self, network_for):
        network, labels = network_for(InMemory(scan(2, 3)), "labels+ignore")

        def label_of(volume):
            label = volume - TISSUE
            label[:, 8:24] = 3
            return label

        assert labels.ignore_label == 3
        assert dice_of(network, labels, InMemory(scan(2, 3), label_of=label_of)) == {"1": 1.0, "2": 1.0}

    @pytest.mark.parametrize("size", [(48, 70), (90, 64)], ids=str)
    def test_scans_of_another_size_than_the_patch(self, network_for, size):
        """What the patch cuts off counts as missed."""
        volume = np.full((4, *size), TISSUE, np.float32)
        volume[:, :, 30:40] = 2
        dataset = InMemory(volume)
        network, labels = network_for(dataset)
        seen = min(size[0], SIZE[0]) / size[0]
        assert dice_of(network, labels, dataset)["1"] == pytest.approx(2 * seen / (1 + seen))

    def test_it_stands_beside_nnunets_dice(self, network_for, tmp_path):
        network, labels = network_for(InMemory(scan(2, 3)))
        dataset = InMemory(scan(2, 3), scan(3))
        dataset.identifiers = ["anna.1", "ben"]
        summary = {
            "metric_per_case": [
                {"metrics": {"1": {"Dice": 0.1}, "2": {"Dice": 0.2}}, "prediction_file": f"{tmp_path}/{case}.nii.gz"}
                for case in dataset.identifiers
            ],
            "mean": {"1": {"Dice": 0.1}, "2": {"Dice": 0.2}},
            "foreground_mean": {"Dice": 0.15},
        }
        file = tmp_path / "summary.json"
        file.write_text(json.dumps(summary))
        assert add_protocol(network, torch.device("cpu"), dataset, labels, file, ".nii.gz") == 1
        written = json.loads(file.read_text())
        assert written["xmodal"] == {"directions": {METRIC: "higher"}}
        assert written["foreground_mean"] == {"Dice": 0.15, METRIC: 1.0}
        assert written["mean"] == {"1": {"Dice": 0.1, METRIC: 1.0}, "2": {"Dice": 0.2, METRIC: 1.0}}
        anna, ben = (case["metrics"] for case in written["metric_per_case"])
        assert anna == {"1": {"Dice": 0.1, METRIC: 1.0}, "2": {"Dice": 0.2, METRIC: 1.0}}
        assert np.isnan(ben["1"][METRIC]) and ben["2"] == {"Dice": 0.2, METRIC: 1.0}


def test_a_label_outside_of_the_patch_leaves_its_chunk_empty(network_for):
    volume = scan(2, size=(64, 200))
    volume[:, 8:40, :10] = 3
    network, labels = network_for(InMemory(volume))
    assert network.support.exists.any((1, 2)).tolist() == [False, False]  # both lie beside the middle
