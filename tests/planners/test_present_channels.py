"""Fingerprint and preprocessing of cases that lack channels: each channel by the cases that have it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.datasets.incomplete_cases import incomplete_training_cases, missing_by_name
from nnunet_xmodal.datasets.presence import MISSING
from nnunet_xmodal.demo.in_process import pools_of_threads
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners.present_channels import PreprocessorOfPresentChannels
from nnunet_xmodal.planners.present_fingerprint import extract_present_fingerprint
from nnunet_xmodal.prediction.channel_subset import with_channels_only


@pytest.fixture
def raw(tmp_path, make_dataset_json):
    """`(channels by case)` → raw dataset of three channels, each with a margin of zeros of its own."""

    def write(channels_of, name="Dataset999_Tiny"):
        rng = np.random.default_rng(0)
        folder = tmp_path / name
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        for case, channels in channels_of.items():
            label = np.zeros((4, 18, 20), np.uint8)
            label[1:3, 6:12, 6:12] = rng.integers(0, 3, (2, 6, 6))
            sitk.WriteImage(sitk.GetImageFromArray(label), str(folder / "labelsTr" / f"{case}.nii.gz"))
            for channel in range(3):
                image = np.zeros(label.shape, np.float32)
                image[:, channel : 14 + channel, channel : 14 + channel] = rng.normal(
                    100 * channel + 50, 9, (4, 14, 14)
                )
                if channel in channels:
                    file = folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz"
                    sitk.WriteImage(sitk.GetImageFromArray(image), str(file))
        dataset_json = make_dataset_json(channels=3) | {"numTraining": len(channels_of)}
        (folder / "dataset.json").write_text(json.dumps(dataset_json))
        return folder, dataset_json

    return write


def fingerprint(cases, dataset_json, folder):
    extract_present_fingerprint(cases, dataset_json, folder, 1, True, False)
    return json.loads((folder / "dataset_fingerprint.json").read_text())


def test_the_fingerprint_of_complete_cases_is_nnunets(raw, tmp_path, monkeypatch):
    folder, dataset_json = raw({"a": (0, 1, 2), "b": (0, 1, 2)})
    stock = DatasetFingerprintExtractor.__new__(DatasetFingerprintExtractor)
    stock.dataset_name, stock.dataset_json, stock.num_processes = folder.name, dataset_json, 1
    stock.num_foreground_voxels_for_intensitystats, stock.show_progress_bar = 10e7, False
    stock.dataset = {
        case: {
            "images": [str(folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz") for channel in range(3)],
            "label": str(folder / "labelsTr" / f"{case}.nii.gz"),
        }
        for case in "ab"
    }
    module = "nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor"
    monkeypatch.setattr(f"{module}.nnUNet_preprocessed", str(tmp_path / "stock"))
    monkeypatch.setattr("nnunet_xmodal.planners.present_fingerprint._SAMPLES", 1000)
    stock.num_foreground_voxels_for_intensitystats = 1000
    with pools_of_threads():
        stock.run()
    expected = json.loads((tmp_path / "stock" / folder.name / "dataset_fingerprint.json").read_text())
    cases = incomplete_training_cases(folder, dataset_json, [[0], [1], [2]])
    assert fingerprint(cases, dataset_json, tmp_path / "ours") == expected
    (tmp_path / "ours" / "dataset_fingerprint.json").write_text("{}")
    extract_present_fingerprint(cases, dataset_json, tmp_path / "ours", 1, False, False)  # --clean was not given
    assert (tmp_path / "ours" / "dataset_fingerprint.json").read_text() == "{}"


def test_a_channels_intensities_and_the_crop_come_of_what_there_is(raw, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_xmodal.planners.present_fingerprint._SAMPLES", 3000)
    folder, dataset_json = raw({"a": (0, 1, 2), "b": (0, 2), "c": (1,)})
    cases = incomplete_training_cases(folder, dataset_json, [[0, 2], [1]])
    assert missing_by_name(cases, dataset_json) == {"b": ["T1c"], "c": ["T1", "T2"]}
    phases = {**dataset_json, "channel_names": {"0": "CT", "1": "CT", "2": "T2"}}  # nnU-Net normalises by name
    assert missing_by_name(cases, phases) == {"b": ["CT (1)"], "c": ["CT (0)", "T2"]}
    made = fingerprint(cases, dataset_json, tmp_path / "ours")
    assert made["shapes_after_crop"] == [[4, 16, 16], [4, 16, 16], [4, 14, 14]]
    properties = made["foreground_intensity_properties_per_channel"]
    only = {"1": [case for case in cases if case.name in "ac"], "0": [case for case in cases if case.name in "ab"]}
    for channel, having in only.items():
        found = []
        for case in having:
            number = (case.channels or (0, 1, 2)).index(int(channel))
            images = [str(case.images[number])]
            found.append(DatasetFingerprintExtractor.analyze_case(images, str(case.label), SimpleITKIO, 1000)[2][0])
        assert properties[channel]["mean"] == pytest.approx(np.mean(found), abs=1.5)  # samples are drawn anew
        assert 100 * int(channel) + 20 < properties[channel]["min"] < properties[channel]["max"]


def test_absent_channels_are_0_and_the_others_as_if_they_were_never_named(raw, make_plans):
    folder, dataset_json = raw({"a": (0, 1, 2), "b": (0, 2)})
    plans = PlansManager(make_plans(channels=3))
    plans.plans["configurations"]["2d"]["use_mask_for_norm"] = [True, False, True]
    _, case = incomplete_training_cases(folder, dataset_json, [[0, 2], [1]])
    preprocessor = PreprocessorOfPresentChannels(verbose=False)
    preprocessor.configuration_name = "2d"
    files, label = [str(file) for file in case.images], str(case.label)
    data, labels, properties = preprocessor.run_case(files, label, plans, plans.get_configuration("2d"), dataset_json)
    subset = with_channels_only([0, 2], plans, "2d", dataset_json)
    expected, its_labels, its_properties = DefaultPreprocessor(verbose=False).run_case(files, label, *subset)
    assert np.array_equal(data[[0, 2]], expected) and data.shape[1:] == (4, 16, 16) and not data[1].any()
    assert np.array_equal(labels, its_labels) and properties.pop(MISSING) == [1]
    assert properties["class_locations"].keys() == its_properties["class_locations"].keys()


def test_datasets_that_cannot_be_planned_so(raw, tmp_path, monkeypatch):
    folder, dataset_json = raw({"a": (0, 2), "b": (0,)})
    with pytest.raises(
        XModalError, match=r"b_0002.nii.gz \(T2\) is missing: case b needs all channels of at least one"
    ):
        incomplete_training_cases(folder, dataset_json, [[0, 2], [1]])
    with pytest.raises(XModalError, match=r"no training case of .* has channel 1 \(T1c\): take it out"):
        incomplete_training_cases(folder, dataset_json, [[0], [1], [2]])
    with pytest.raises(XModalError, match="lists its files"):
        incomplete_training_cases(folder, dataset_json | {"dataset": {}}, [[0], [1], [2]])
    monkeypatch.setattr("nnunet_xmodal.planners.present_fingerprint._SAMPLES", 100)
    folder, dataset_json = raw({"a": (0, 1, 2), "b": (1, 2)}, "Dataset998_Tiny")
    cases = incomplete_training_cases(folder, dataset_json, [[0], [1], [2]])
    empty = folder / "empty.nii.gz"
    sitk.WriteImage(sitk.Image(20, 18, 4, sitk.sitkUInt8), str(empty))
    cases[0] = replace(cases[0], label=empty)
    with pytest.raises(XModalError, match="no case that has T1 has a labelled voxel"):
        fingerprint(cases, dataset_json, tmp_path)
