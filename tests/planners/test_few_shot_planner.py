"""Plans for few-shot segmentation: every slice fits into the patch, and labels decide nothing."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.commands.plan_and_preprocess import main
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import planner_class

DATASET = "Dataset500_Written"
CASES = {  # shape of the image, spacing: along z, y, x
    "small": ((5, 60, 50), (5.0, 1.1, 1.1)),
    "wide": ((7, 61, 83), (4.0, 1.0, 1.0)),
    "fine": ((6, 131, 127), (3.0, 0.71, 0.63)),
}
TURNED = {case: ((*shape[1:], shape[0]), (*mm[1:], mm[0])) for case, (shape, mm) in CASES.items()}  # slices along x


def write_case(folder: Path, case: str, shape, spacing, channels=1, label=1) -> dict:
    """Noise above zero, with a zero margin of one voxel in the slices, which nnU-Net crops; returns its files."""
    rng = np.random.default_rng(len(case))
    files = {"images": [], "label": str(folder / f"{case}.nii.gz")}
    for channel in range(channels):
        array = rng.uniform(1, 2, shape).astype(np.float32) * 100 * (channel + 1)
        array[:, 0] = array[:, -1] = 0
        files["images"].append(str(folder / f"{case}_{channel:04d}.nii.gz"))
        write(array, spacing, files["images"][-1])
    mask = np.zeros(shape, np.uint8)
    mask[2:4, 20:30, 2:5] = label
    write(mask, spacing, files["label"])
    return files


def write(array, spacing, file) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(file))


@pytest.fixture
def plan(nnunet_folders):
    """`(cases, channels' names, planner's options)` → plans, by nnU-Net's fingerprint of written images."""

    def plan_it(cases=CASES, channels=("CT",), label=1, **options) -> dict:
        raw, preprocessed = (nnunet_folders / name / DATASET for name in ("nnUNet_raw", "nnUNet_preprocessed"))
        raw.mkdir(exist_ok=True)
        preprocessed.mkdir(exist_ok=True)
        listed = {case: write_case(raw, case, *of, len(channels), label) for case, of in cases.items()}
        dataset_json = {
            "channel_names": {str(index): name for index, name in enumerate(channels)},
            "labels": {"background": 0, "liver": 1},
            "numTraining": len(cases),
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "SimpleITKIO",
            "dataset": listed,
        }
        (raw / "dataset.json").write_text(json.dumps(dataset_json))
        analysed = [
            DatasetFingerprintExtractor.analyze_case(files["images"], files["label"], SimpleITKIO)
            for files in listed.values()
        ]
        fingerprint = {
            "spacings": [list(of[1]) for of in analysed],
            "shapes_after_crop": [list(map(int, of[0])) for of in analysed],
            "median_relative_size_after_cropping": 0.5,  # so small that nnU-Net would normalise within a mask
            "foreground_intensity_properties_per_channel": {
                str(index): {"mean": 0.0, "std": 1.0, "percentile_00_5": -1.0, "percentile_99_5": 1.0}
                for index in range(len(channels))
            },
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
        return planner_class("FewShotPlanner")(DATASET, **options).plan_experiment()

    return plan_it


def preprocessed_cases(folders) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Case → image and segmentation, by nnU-Net's preprocessor and the plans on disk."""
    folder = folders / "nnUNet_preprocessed" / DATASET
    dataset_json = json.loads((folder / "dataset.json").read_text())
    manager = PlansManager(str(folder / "nnUNetFewShotPlans.json"))
    return {
        case: DefaultPreprocessor(verbose=False).run_case(
            files["images"], files["label"], manager, manager.get_configuration("2d"), dataset_json
        )[:2]
        for case, files in dataset_json["dataset"].items()
    }


@pytest.mark.parametrize("size", [[64], [96, 72], [72, 128], None], ids=str)
@pytest.mark.parametrize("cases", [CASES, TURNED], ids=["z", "x"])
def test_every_preprocessed_slice_fits_into_the_patch_and_the_largest_one_fills_it(plan, nnunet_folders, cases, size):
    plans = plan(cases, size=size)
    configuration = plans["configurations"]["2d"]
    patch = configuration["patch_size"]
    assert patch == (size * 2 if size and len(size) == 1 else size or [256, 256])
    assert configuration["spacing"][0] == configuration["spacing"][1]
    filled = []
    for case, (image, segmentation) in preprocessed_cases(nnunet_folders).items():
        assert image.shape[1] == CASES[case][0][0] and segmentation.shape == image.shape  # all slices, none new
        filled.append(np.divide(image.shape[2:], patch))
    filled = np.array(filled)
    assert (filled <= 1).all() and filled.max() == 1


def test_rounding_never_exceeds_the_patch(plan):
    """Over extents of every length: nnU-Net rounds extent/spacing, which is at most the patch."""
    rng = np.random.default_rng(0)
    plan()
    planner = planner_class("FewShotPlanner")(DATASET, size=64)
    for _ in range(200):
        shapes = rng.integers(20, 700, (4, 3))
        spacings = rng.uniform(0.2, 6, (4, 3))
        planner.dataset_fingerprint = {"shapes_after_crop": shapes, "spacings": spacings}
        spacing = planner.slice_spacing([0, 1, 2])
        rounded = np.array([[round(mm / new * n) for mm, new, n in zip(*of)] for of in
                            zip(spacings[:, 1:], [spacing] * 4, shapes[:, 1:])])  # fmt: skip
        assert rounded.max() == 64


@pytest.mark.parametrize("names", list(product(("CT", "noNorm"), ("T2", "rescale_to_0_1"))), ids=str)
def test_intensities_are_z_scored_over_the_whole_image_whatever_channels_are_called(plan, nnunet_folders, names):
    configuration = plan(channels=names)["configurations"]["2d"]
    assert configuration["normalization_schemes"] == ["ZScoreNormalization"] * 2
    assert configuration["use_mask_for_norm"] == [False] * 2


def test_images_do_not_depend_on_labels(plan, nnunet_folders):
    plan()
    with_labels = preprocessed_cases(nnunet_folders)
    plan(label=0)
    without = preprocessed_cases(nnunet_folders)
    for case in CASES:
        np.testing.assert_array_equal(with_labels[case][0], without[case][0])
        assert (with_labels[case][1] == 1).any() and not (without[case][1] == 1).any()


def test_plans_that_nnunet_reads_with_one_configuration_of_their_own(plan, nnunet_folders):
    plan(TURNED)
    file = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetFewShotPlans.json"
    manager = PlansManager(str(file))
    assert manager.available_configurations == ["2d"]
    assert manager.transpose_forward == [2, 0, 1] and manager.transpose_backward == [1, 2, 0]
    configuration = manager.get_configuration("2d")
    assert configuration.data_identifier == "nnUNetFewShotPlans_2d" and configuration.batch_size == 1
    assert configuration.preprocessor_class is DefaultPreprocessor
    assert configuration.network_arch_class_name == "nnunet_xmodal.networks.prototype_network.PrototypeNetwork"
    assert configuration.network_arch_init_kwargs == {"size": [256, 256], "chunks": 3, "shots": 1}
    assert (file.parent / "dataset.json").is_file()


def test_a_name_and_a_spacing_of_the_users(plan, nnunet_folders, capsys):
    plans = plan(TURNED, plans_name="MyPlans", overwrite_target_spacing=[0.8, 1.2, 4.0], size=[64])
    configuration = plans["configurations"]["2d"]
    assert configuration["spacing"] == [0.8, 1.2] and configuration["data_identifier"] == "MyPlans_2d"
    assert (nnunet_folders / "nnUNet_preprocessed" / DATASET / "MyPlans.json").is_file()
    assert "the slices of 3 of 3 cases exceed the patch [64, 64]" in capsys.readouterr().out


@pytest.mark.parametrize("size", [[100], [56], [0], [-64], [64, 65], [64, 64, 64], 60], ids=str)
def test_a_size_that_the_network_cannot_read_is_a_sentence(plan, size):
    with pytest.raises(XModalError, match="--size takes one number, or two .* multiple of 8 and at least 64"):
        planner_class("FewShotPlanner").check_raw({}, [], size)


@pytest.fixture
def command(nnunet_folders, monkeypatch, capfd):
    """`(arguments)` → exit status and output of nnUNetXModal_plan_and_preprocess."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")

    def run(*arguments) -> tuple[int, str]:
        status = 0
        try:
            main(["-d", "500", "-np", "1", "-npfp", "1", "--no_pbar", *arguments])
        except SystemExit as exit:
            status = exit.code
        return status, "".join(capfd.readouterr())

    return run


@pytest.mark.slow
def test_the_command_plans_a_dataset_with_one_labelled_case(nnunet_folders, command):
    raw = nnunet_folders / "nnUNet_raw" / DATASET
    (raw / "labelsTr").mkdir(parents=True)
    (raw / "imagesTr").mkdir()
    for case, of in CASES.items():
        write_case(raw / "imagesTr", case, *of)
        label = raw / "imagesTr" / f"{case}.nii.gz"
        label.rename(raw / "labelsTr" / label.name) if case == "fine" else label.unlink()
    dataset_json = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "numTraining": 3,
                    "file_ending": ".nii.gz"}  # fmt: skip
    (raw / "dataset.json").write_text(json.dumps(dataset_json))
    few_shot = ("-pl", "FewShotPlanner", "--size", "64", "-c", "2d")

    for arguments, sentence in (
        (few_shot, "small.nii.gz is missing: every training case needs a label map"),
        ((*few_shot, "--size", "60", "--unlabelled"), "--size takes one number"),
        (("--size", "64"), "--size does not apply to ExperimentPlanner: take one of FewShotPlanner."),
        (("-pl", "RegistrationPlanner", "--unlabelled"), "RegistrationPlanner needs a label in every case"),
    ):
        code, output = command(*arguments)
        assert code == 2 and sentence in output and "Traceback" not in output
    assert [file.name for file in (raw / "labelsTr").iterdir()] == ["fine.nii.gz"]

    code, output = command(*few_shot, "--unlabelled")
    assert code == 0, output[-3000:]
    assert "2 of 3 training cases had no label file and were given an empty one" in output
    folder = nnunet_folders / "nnUNet_preprocessed" / DATASET / "nnUNetFewShotPlans_2d"
    assert sorted(file.name for file in folder.glob("*.pkl")) == ["fine.pkl", "small.pkl", "wide.pkl"]
