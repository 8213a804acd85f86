import pickle

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.datasets.cases import cases_in_folder, files_by_channel
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.whole_cases import cases_to_segment, with_previous_stage
from nnunet_xmodal.tasks.segmentation.uncertainty import map_files

DATASET = {"channel_names": {"0": "T2W", "1": "ADC"}, "labels": {"background": 0}, "file_ending": ".nii.gz"}


@pytest.fixture
def names(tmp_path):
    """Flags → names of the cases that are to be predicted, of a, b and c; a has a segmentation, b probabilities too."""
    images, output = tmp_path / "images", tmp_path / "output"
    images.mkdir(), output.mkdir()
    for case in "abc":
        for channel in range(2):
            (images / f"{case}_000{channel}.nii.gz").touch()
    for name in ("a.nii.gz", "b.nii.gz"):
        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(output / name))
    np.savez_compressed(output / "b.npz", probabilities=np.zeros((2, 4, 4, 4), np.float32))
    (output / "b.pkl").write_bytes(pickle.dumps({"spacing": (1, 1, 1)}))

    def names(*flags):
        args = parser().parse_args(["-i", str(images), "-o", str(output), "-d", "1", "-c", "2d", *flags])
        return [case.name for case in cases_to_segment(cases_in_folder(images, DATASET), request_of(args), DATASET)]

    return names


def test_predicted_cases_are_skipped_as_nnunet_skips_them(names):
    assert names() == ["a", "b", "c"]
    assert names("--continue_prediction") == ["c"]
    assert names("--continue_prediction", "--save_probabilities") == ["a", "c"]


@pytest.mark.parametrize("name", ["b.nii.gz", "b.npz", "b.pkl"])
@pytest.mark.parametrize("bytes_left", [0, 20, -1])
def test_a_prediction_that_is_cut_off_is_not_a_finished_one(names, tmp_path, capsys, name, bytes_left):
    file = tmp_path / "output" / name
    file.write_bytes(file.read_bytes()[:bytes_left])
    assert names("--continue_prediction", "--save_probabilities") == ["a", "b", "c"]
    assert f"{file} is cut off" in capsys.readouterr().out


def test_parts_share_the_cases(names):
    parts = [names("-num_parts", "2", "-part_id", str(part)) for part in range(2)]
    assert sorted(sum(parts, [])) == ["a", "b", "c"]
    with pytest.raises(XModalError, match="-part_id 2 is not between 0 and 1"):
        names("-num_parts", "2", "-part_id", "2")


def test_the_second_stage_of_a_cascade_needs_the_first_of_every_case(names, tmp_path):
    with pytest.raises(XModalError, match=r"a\.nii\.gz is missing: predict the previous stage of a first"):
        names("-prev_stage_predictions", str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "changed, sentence",
    [
        ({}, None),
        ({"value": 7}, r"c\.nii\.gz holds the label 7, which dataset\.json does not name"),
        ({"origin": (9.0, 0.0, 0.0)}, r"c\.nii\.gz has the origin"),
        ({"direction": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)}, r"c\.nii\.gz has the direction"),
        ({"size": (4, 4, 2)}, r"c\.nii\.gz has the (shape|size)"),
    ],
)
def test_label_maps_of_the_first_stage_lie_on_the_images_and_hold_known_labels(names, tmp_path, changed, sentence):
    images, stage = tmp_path / "images", tmp_path / "stage"
    stage.mkdir()
    for case in "abc":
        for channel in range(2):
            sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(images / f"{case}_000{channel}.nii.gz"))
        of_case = changed if case == "c" else {}
        image = sitk.Image(of_case.get("size", (4, 4, 4)), sitk.sitkUInt8) + of_case.get("value", 1)
        image.SetOrigin(of_case.get("origin", (0.0, 0.0, 0.0)))
        image.SetDirection(of_case.get("direction", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)))
        sitk.WriteImage(image, str(stage / f"{case}.nii.gz"))
    dataset_json = {**DATASET, "labels": {"background": 0, "organ": 1}}
    words = ["-i", images, "-o", tmp_path / "output", "-d", 1, "-c", "2d", "-prev_stage_predictions", stage]
    request = request_of(parser().parse_args([str(word) for word in words]))
    cases = with_previous_stage(cases_in_folder(images, dataset_json), request, dataset_json)
    if sentence is None:
        check_cases(cases, dataset_json, progress=False)
    else:
        with pytest.raises(XModalError, match=sentence):
            check_cases(cases, dataset_json, progress=False)


def test_a_case_without_its_maps_is_not_finished(names, tmp_path):
    images, output = tmp_path / "images", tmp_path / "output"
    words = ["-i", images, "-o", output, "-d", 1, "-c", "2d", "--continue_prediction"]
    request = request_of(parser().parse_args([str(word) for word in words]))
    cases = cases_in_folder(images, DATASET)
    assert [case.name for case in cases_to_segment(cases, request, DATASET, map_files)] == ["a", "b", "c"]
    (output / "uncertainty").mkdir()
    for name in ("entropy", "mutual_information"):
        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkFloat32), str(output / "uncertainty" / f"b_{name}.nii.gz"))
    assert [case.name for case in cases_to_segment(cases, request, DATASET, map_files)] == ["a", "c"]


def test_cases_are_in_the_order_by_which_nnunet_deals_out_parts(tmp_path):
    for number in range(1, 13):
        (tmp_path / f"p{number}_0000.nii.gz").touch()
    theirs = get_identifiers_from_splitted_dataset_folder(str(tmp_path), ".nii.gz")
    assert list(files_by_channel(tmp_path, ".nii.gz")) == list(theirs) != [f"p{number}" for number in range(1, 13)]
