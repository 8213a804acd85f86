"""Registrations for which more than the images is known: a start, the truth, a folder of moving images."""

import numpy as np
import pytest
import registration_pairs as pairs
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.grid_chain import euler_transform


def landmarks_of(points, file):
    lines = [f"{x},{y},{z},p{number}" for number, (x, y, z) in enumerate(points)]
    file.write_text("\n".join(["x,y,z,label", *lines]) + "\n")


@pytest.mark.parametrize("kind", ["transform", "landmarks"])
def test_a_given_start_is_part_of_the_result(make_predictor, run, write, tmp_path, kind):
    """The images lie far apart and one is turned by 100°, so that no other start would do."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [20, -15, 100], degrees=True).as_matrix()
    turn[:3, 3] = 300, -20, 50
    x = pairs.resampling_matrix(pairs.ANSWER, np.eye(3), turn)
    write(pairs.fixed_of(), pairs.moving_of(x))
    (tmp_path / "starts").mkdir()
    if kind == "transform":
        sitk.WriteTransform(euler_transform(turn, (5.0, 6.0, 7.0)), str(tmp_path / "starts" / "anna.tfm"))
    else:
        for number, points in enumerate(
            (pairs.CENTRE + pairs.BLOBS[:4], pairs.applied(turn, pairs.CENTRE + pairs.BLOBS[:4]))
        ):
            landmarks_of(points, tmp_path / "starts" / f"anna_{number:04d}.csv")
    run(make_predictor(pairs.ANSWER), "--init", tmp_path / "starts")
    pairs.assert_same_transform(pairs.written(tmp_path), x)
    row = pairs.rows(tmp_path)["anna"]
    assert row["init"] == str(tmp_path / "starts")
    assert float(row["found_displacement"]) == pytest.approx(np.linalg.norm(pairs.ANSWER[:3]), abs=1e-2)
    assert row["warning"] == "" and float(row["disagreement"]) < 10


def test_errors_are_told_where_the_truth_is_known(make_predictor, run, write, tmp_path):
    x = pairs.resampling_matrix(pairs.ANSWER, np.eye(3))
    fixed = pairs.fixed_of()
    write(fixed, pairs.moving_of(x))
    (tmp_path / "truth").mkdir()
    for number, points in enumerate((pairs.CENTRE + pairs.BLOBS[:5], pairs.applied(x, pairs.CENTRE + pairs.BLOBS[:5]))):
        landmarks_of(points, tmp_path / "truth" / f"anna_{number:04d}.csv")
    pairs.mark(tmp_path, "labels", fixed, (5, 14, 16), (8, 8, 8))
    truth = euler_transform(x, pairs.CENTRE)
    (tmp_path / "moving_labels").mkdir()
    label = sitk.ReadImage(str(tmp_path / "labels" / "anna.nii.gz"))
    onto = sitk.Resample(label, pairs.moving_of(x), truth.GetInverse(), sitk.sitkNearestNeighbor, 0.0)
    sitk.WriteImage(onto, str(tmp_path / "moving_labels" / "anna.mha"))
    flags = ["--reference", tmp_path / "truth", "--labels", tmp_path / "labels"]
    run(make_predictor(pairs.ANSWER), *flags, "--moving_labels", tmp_path / "moving_labels")
    row = pairs.rows(tmp_path)["anna"]
    assert float(row["TRE_mm"]) < 1e-2 < 3 < float(row["TRE_before_mm"])
    assert float(row["SRE_mm"]) < 1e-2 < 3 < float(row["SRE_before_mm"])
    assert float(row["Dice"]) > 0.85 > float(row["Dice_before"])
    assert row["centre_from"] == "non-zero region"  # what measures does not help


def test_moving_images_lie_in_a_folder_of_their_own_with_their_own_ending(make_predictor, run, write, tmp_path):
    x = pairs.resampling_matrix(pairs.ANSWER, pairs.OBLIQUE)
    write(pairs.fixed_of(pairs.OBLIQUE), pairs.moving_of(x))
    (tmp_path / "us").mkdir()
    with pytest.raises(XModalError, match="anna_0001.nii.gz is there although --moving .*us is the folder of"):
        run(make_predictor(pairs.ANSWER), "--moving", tmp_path / "us")
    (tmp_path / "in" / "anna_0001.nii.gz").unlink()
    with pytest.raises(XModalError, match="us holds no moving image of anna: name it anna_0001 or anna, and .nii.gz"):
        run(make_predictor(pairs.ANSWER), "--moving", tmp_path / "us")
    sitk.WriteImage(pairs.moving_of(x), str(tmp_path / "us" / "anna.nrrd"))
    run(make_predictor(pairs.ANSWER), "--moving", tmp_path / "us")
    pairs.assert_same_transform(pairs.written(tmp_path), x)


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["--init", "centre"], "--init centre is no folder: take none, geometry, moments, or a folder"),
        (["--init", "."], "--init .* holds no alignment of anna"),
        (["--reference", "."], "--reference .* holds no alignment of anna"),
        (["--moving_labels", "."], "are compared with the labels of the fixed images: give --labels, too"),
    ],
)
def test_faulty_starts_and_references(make_predictor, run, write, tmp_path, flags, sentence):
    write(pairs.fixed_of(), pairs.moving_of(np.eye(4)))
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(pairs.ANSWER), *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("init", ["none", "geometry", "moments"])
def test_fixed_and_moving_images_may_be_of_two_types(make_predictor, run, write, tmp_path, init):
    """As MR and ultrasound are: 16 bits and 8."""
    write(sitk.Cast(pairs.fixed_of(), sitk.sitkInt16), sitk.Cast(pairs.moving_of(np.eye(4)), sitk.sitkFloat64))
    run(make_predictor(pairs.ANSWER), "--init", init)
    assert (tmp_path / "out" / "anna.tfm").is_file()


@pytest.mark.parametrize("flag", ["--init", "--reference"])
def test_given_transforms_are_not_written_over(make_predictor, run, write, tmp_path, flag):
    write(pairs.fixed_of(), pairs.moving_of(np.eye(4)))
    (tmp_path / "given").mkdir()
    sitk.WriteTransform(euler_transform(np.eye(4), pairs.CENTRE), str(tmp_path / "given" / "anna.tfm"))
    before = (tmp_path / "given" / "anna.tfm").read_bytes()
    with pytest.raises(XModalError, match=f"given is the folder that {flag} reads"):
        run(make_predictor(pairs.ANSWER), flag, tmp_path / "given", "-o", tmp_path / "given")
    assert (tmp_path / "given" / "anna.tfm").read_bytes() == before
