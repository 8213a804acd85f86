"""Alignments that somebody has made, and errors on pairs whose alignment or labels are known."""

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.grid_chain import euler_transform
from nnunet_xmodal.tasks.registration.given_alignment import alignment_files, read_alignment
from nnunet_xmodal.tasks.registration.new_pair_errors import Known, PairErrors

DATASET = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
POINTS = np.array([[0.0, 0, 0], [20, 0, 0], [0, 30, 0], [0, 0, 40], [5, 6, 7]])
STRAIGHT = np.eye(3)
TRUTH = np.eye(4)
TRUTH[:3, :3] = Rotation.from_euler("xyz", [5, -10, 20], degrees=True).as_matrix()
TRUTH[:3, 3] = 3, -4, 12


def applied(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def write_points(file, points):
    rows = [f"{x},{y},{z},p{number}" for number, (x, y, z) in enumerate(points)]
    file.write_text("\n".join(["x,y,z,label", *rows]) + "\n")


def ball(file, centre, direction=STRAIGHT, radius=9.0):
    """A label of a ball on a grid whose middle is the centre, with voxels of 1×1×2 mm."""
    image = sitk.Image([40, 40, 20], sitk.sitkUInt8)
    image.SetSpacing((1.0, 1.0, 2.0))
    image.SetDirection(direction.flatten().tolist())
    image.SetOrigin((np.array(centre) - direction @ np.array([19.5, 19.5, 19.0])).tolist())
    z, y, x = np.indices((20, 40, 40))
    inside = (x - 19.5) ** 2 + (y - 19.5) ** 2 + (2 * (z - 9.5)) ** 2 < radius**2
    made = sitk.GetImageFromArray(inside.astype(np.uint8))
    made.CopyInformation(image)
    sitk.WriteImage(made, str(file))
    return file


def test_a_transform_comes_before_landmarks_and_both_are_the_same_alignment(tmp_path):
    for number, points in enumerate((POINTS, applied(TRUTH, POINTS))):
        write_points(tmp_path / f"anna_{number:04d}.csv", points)
    files = alignment_files(tmp_path, "anna", "--init")
    assert [file.name for file in files] == ["anna_0000.csv", "anna_0001.csv"]
    landmarks = read_alignment(files)
    np.testing.assert_allclose(landmarks.matrix, TRUTH, atol=1e-9)
    np.testing.assert_allclose(landmarks.moving_points, applied(TRUTH, landmarks.fixed_points), atol=1e-12)
    sitk.WriteTransform(euler_transform(TRUTH, (1.0, 2.0, 3.0)), str(tmp_path / "anna.tfm"))
    (file,) = alignment_files(tmp_path, "anna", "--init")
    transform = read_alignment((file,))
    np.testing.assert_allclose(transform.matrix, TRUTH, atol=1e-9)
    assert len(transform.fixed_points) == 0


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({}, r"--init .* holds no alignment of anna: give a transform, anna.tfm \(or"),
        ({"anna_0000.csv": 5}, "anna_0000.csv has no counterpart: landmarks are those of both images"),
        ({"anna_0000.csv": 2, "anna_0001.csv": 5}, "anna_0000.csv, .*anna_0001.csv: the images have 2 landmarks of"),
    ],
)
def test_what_is_no_alignment_is_said(tmp_path, files, sentence):
    for name, count in files.items():
        write_points(tmp_path / name, POINTS[:count])
    with pytest.raises(XModalError, match=sentence):
        read_alignment(alignment_files(tmp_path, "anna", "--init"))


def test_landmarks_measure_the_tre_and_with_a_label_the_sre(tmp_path):
    write_points(tmp_path / "anna_0000.csv", POINTS)
    write_points(tmp_path / "anna_0001.csv", applied(TRUTH, POINTS))
    fixed = ball(tmp_path / "fixed.nii.gz", (0, 0, 0))
    errors = PairErrors(Known(alignment_files(tmp_path, "anna", "-"), fixed), DATASET)
    shifted = TRUTH.copy()
    shifted[:3, 3] += (2, -3, 6)
    told = errors.of(euler_transform(np.eye(4), (0, 0, 0)), euler_transform(shifted, (0, 0, 0)))
    assert set(told) == {"TRE_before_mm", "TRE_mm", "SRE_before_mm", "SRE_mm"}
    assert told["TRE_mm"] == pytest.approx(7) and told["SRE_mm"] == pytest.approx(7)
    expected = np.linalg.norm(POINTS - applied(TRUTH, POINTS), axis=1).mean()
    assert told["TRE_before_mm"] == pytest.approx(expected)
    right = errors.of(euler_transform(np.eye(4), (0, 0, 0)), euler_transform(TRUTH, (4.0, 5.0, 6.0)))
    assert right["TRE_mm"] < 1e-9 and right["SRE_mm"] < 1e-9


def test_a_turn_about_the_organs_middle_moves_its_surface_by_less_than_its_radius(tmp_path):
    """The surface is where the label is, on oblique axes too."""
    axes = Rotation.from_euler("xyz", [10, 20, 30], degrees=True).as_matrix()
    centre = np.array([50.0, -20, 10])
    fixed = ball(tmp_path / "fixed.nii.gz", centre, axes)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("z", 60, degrees=True).as_matrix()
    turn[:3, 3] = centre - turn[:3, :3] @ centre
    sitk.WriteTransform(euler_transform(turn, centre), str(tmp_path / "anna.tfm"))
    errors = PairErrors(Known(alignment_files(tmp_path, "anna", "-"), fixed), DATASET)
    same = euler_transform(np.eye(4), (0, 0, 0))
    told = errors.of(same, same)
    assert set(told) == {"SRE_before_mm", "SRE_mm"}
    assert 0.6 * 9 < told["SRE_mm"] < 9  # a chord of 60° is the distance to the axis, π/4 of the radius on average


def test_labels_of_both_images_measure_their_dice(tmp_path):
    fixed, moving = ball(tmp_path / "f.nii.gz", (0, 0, 0)), ball(tmp_path / "m.nii.gz", (100, 0, 0))
    errors = PairErrors(Known((), fixed, moving), DATASET)
    right = np.eye(4)
    right[0, 3] = 100
    told = errors.of(euler_transform(np.eye(4), (0, 0, 0)), euler_transform(right, (0, 0, 0)))
    assert told == {"Dice_before": 0.0, "Dice": 1.0}


def test_nothing_known_nothing_told():
    same = euler_transform(np.eye(4), (0, 0, 0))
    assert PairErrors(Known(), DATASET).of(same, same) == {}


def test_labels_without_an_organ_and_numbers_that_are_none_are_said_before_anything_is_registered(tmp_path):
    empty = sitk.ReadImage(str(ball(tmp_path / "ball.nii.gz", (0, 0, 0)))) * 0
    sitk.WriteImage(empty, str(tmp_path / "anna.nii.gz"))
    with pytest.raises(XModalError, match="anna.nii.gz shows no organ, so nothing can be measured on it"):
        PairErrors(Known(fixed_label=tmp_path / "anna.nii.gz"), DATASET)
    broken = POINTS.copy()
    broken[1, 2] = np.nan
    for number, points in enumerate((broken, POINTS)):
        write_points(tmp_path / f"anna_{number:04d}.csv", points)
    with pytest.raises(XModalError, match="anna_0000.csv holds no landmarks"):
        read_alignment(alignment_files(tmp_path, "anna", "--init"))


@pytest.mark.parametrize(
    "write, sentence",
    [
        (lambda file: sitk.WriteTransform(sitk.Euler2DTransform(), str(file)), "is a transform of 2 dimensions"),
        (lambda file: np.savetxt(file, np.where(TRUTH == 12, np.nan, TRUTH)), "holds NaN or infinity"),
    ],
)
def test_what_is_no_rigid_transform_of_volumes_is_said(tmp_path, write, sentence):
    write(tmp_path / "anna.txt")
    with pytest.raises(XModalError, match=sentence):
        read_alignment((tmp_path / "anna.txt",))


def test_sixteen_numbers_are_a_matrix_however_they_are_written(tmp_path):
    numbers = [repr(float(number)) for number in TRUTH.flatten()]
    for text in ("\ufeff" + " ".join(numbers), ",".join(numbers), "\r\n".join(numbers)):
        (tmp_path / "anna.txt").write_text(text, encoding="utf-8", newline="")
        np.testing.assert_allclose(read_alignment((tmp_path / "anna.txt",)).matrix, TRUTH, atol=1e-9)
