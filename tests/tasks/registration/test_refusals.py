"""What users get wrong: a sentence, before anything is written."""

import numpy as np
import pytest
from registration_pairs import ANSWER, fixed_of, mark, moving_of, shifted, spoilt

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor


@pytest.mark.parametrize(
    "spoil_fixed, spoil_moving, flags, sentence",
    [
        (None, lambda i: shifted(i, 300, 0, 0), [], r"anna_0001.nii.gz does not overlap with .*--init geometry"),
        (None, lambda i: shifted(i, 68, 0, 0), [], "does not reach into the grid around .* or show where the organ is"),
        (None, lambda i: spoilt(i, Spacing=(0.0012, 0.001, 0.0019)), ["--init", "geometry"],
         r"anna_0001.nii.gz measures 0.13 mm from corner to corner and .*anna_0000.nii.gz \d+\.?\d* mm"),
        (None, lambda i: spoilt(i, slices=slice(1)), [], r"anna_0001.nii.gz is a single slice \(64×72×1 voxels\)"),
        (lambda i: i[:, :, 4], None, [], "holds 40×36 voxels, which is no single volume"),
        (None, lambda i: spoilt(i, voxels={(3, 4, 5): np.nan}), [], "anna_0001.nii.gz holds NaN or infinite voxels"),
        (lambda i: spoilt(i, voxels={(3, 4, 5): np.inf}), None, [], "anna_0000.nii.gz holds NaN or infinite voxels"),
        (lambda i: i * 0, None, [], "anna_0000.nii.gz is zero everywhere"),
        (None, lambda i: i * 0 + 3, ["--init", "moments"], "needs images with a centre of mass, and one is 3 everyw"),
        (None, lambda i: i * 0 + 3, [], "anna_0001.nii.gz has the value 3 everywhere: there is nothing to register"),
        (lambda i: i * 0 + 5, None, [], "anna_0000.nii.gz has the value 5 everywhere: there is nothing to register"),
        (None, None, ["--save_probabilities"], "there are no probabilities to save"),
        (None, None, ["--labels", "."], "--labels does not apply to models of nnUNetTrainerAttentionReg"),
        (None, None, ["--roi", "."], r"anna.nii.gz \(or one that ends in .csv, .mrk.json\) is missing: --roi needs"),
    ],
)  # fmt: skip
def test_refusals_before_anything_is_written(
    make_predictor, run, write, tmp_path, spoil_fixed, spoil_moving, flags, sentence
):
    fixed, moving = fixed_of(), moving_of(np.eye(4))
    write(spoil_fixed(fixed) if spoil_fixed else fixed, spoil_moving(moving) if spoil_moving else moving)
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(ANSWER), *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("anna.csv", "x,y,z\n1,2,3\n4,5,6\n", "does not hold a single point: write a .csv with the header x,y,z"),
        ("anna.csv", "x,y,z\n1,2,nan\n", "does not hold a single point"),
        ("anna.csv", "1,2,3\n", "does not hold a single point"),
        ("anna.mrk.json", "{}", "does not hold a single point"),
        ("anna.csv", "x,y,z\n31,-45.5,210\n", r"the centre \[31.0, -45.5, 210.0\] mm of .*anna.csv lies outside of"),
    ],
)
def test_faulty_points(make_predictor, run, write, tmp_path, name, content, sentence):
    write(fixed_of(), moving_of(np.eye(4)))
    (tmp_path / "points").mkdir()
    (tmp_path / "points" / name).write_text(content)
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(ANSWER), "--roi", tmp_path / "points")
    assert not (tmp_path / "out").exists()


def test_faulty_masks_and_labels(make_predictor, run, write, tmp_path, monkeypatch):
    fixed = fixed_of()
    write(fixed, moving_of(np.eye(4)))
    mark(tmp_path, "empty", fixed, (0, 0, 0), (0, 0, 0))
    with pytest.raises(XModalError, match="empty/anna.nii.gz is empty: mark the organ"):
        run(make_predictor(ANSWER), "--roi", tmp_path / "empty")
    monkeypatch.setattr(RegistrationPredictor, "fixed_is_label", True)
    with pytest.raises(XModalError, match="read the label of the fixed image in its place: give the folder of"):
        run(make_predictor(ANSWER))
    with pytest.raises(XModalError, match="in/anna.nii.gz is missing: --labels needs a file for every case"):
        run(make_predictor(ANSWER), "--labels", tmp_path / "in")
    with pytest.raises(XModalError, match="empty/anna.nii.gz is empty"):
        run(make_predictor(ANSWER), "--labels", tmp_path / "empty")
    mark(tmp_path, "here", fixed, (1, 1, 1), (2, 2, 2))
    mark(tmp_path, "there", fixed, (14, 32, 36), (2, 2, 2))
    with pytest.raises(XModalError, match="there/anna.nii.gz does not reach into the grid"):
        run(make_predictor(ANSWER), "--labels", tmp_path / "there", "--roi", tmp_path / "here")
    assert not (tmp_path / "out").exists()


def test_axes_that_are_not_at_right_angles(make_predictor, run, write, tmp_path):
    """SimpleITK would refuse such a NIfTI, or forget its shear."""
    import nibabel

    write(fixed_of(), moving_of(np.eye(4)))
    file = tmp_path / "in" / "anna_0001.nii.gz"
    image = nibabel.load(file)
    sheared_axes = np.array([[1, 0.3, 0, -20], [0, 1, 0, 0], [0, 0, 1, 150], [0, 0, 0, 1.0]])
    for affine, sentence in (
        (sheared_axes, "the axes of .*anna_0001.nii.gz.* are not three at right angles"),
        (np.diag([1, 1, 0, 1.0]), "anna_0001.nii.gz has the spacing 1×1×0 mm, which has to be positive"),
    ):
        sheared = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32), None)
        sheared.set_sform(affine, 1)
        nibabel.save(sheared, file)
        with pytest.raises(XModalError, match=sentence):
            run(make_predictor(ANSWER))
    assert not (tmp_path / "out").exists()


def test_missing_and_superfluous_files(make_predictor, run, write, tmp_path):
    write(fixed_of(), moving_of(np.eye(4)))
    with pytest.raises(XModalError, match="is the folder that -i reads"):
        run(make_predictor(ANSWER), "-o", tmp_path / "in")
    (tmp_path / "in" / "anna_0002.nii.gz").touch()
    with pytest.raises(XModalError, match="anna_0002.nii.gz is one channel too many"):
        run(make_predictor(ANSWER))
    (tmp_path / "in" / "anna_0002.nii.gz").unlink()
    (tmp_path / "in" / "anna_0000.nii.gz").unlink()
    with pytest.raises(XModalError, match=r"anna_0000.nii.gz is missing: case anna needs channel 0 \(MR\)"):
        run(make_predictor(ANSWER))
    (tmp_path / "in" / "anna_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(XModalError, match="anna_0000.nii.gz cannot be read"):
        run(make_predictor(ANSWER))
    assert not (tmp_path / "out").exists()


def test_the_first_of_several_faulty_cases_is_described(make_predictor, run, write):
    for case in ("anna", "ben", "eve"):
        write(fixed_of(), shifted(moving_of(np.eye(4)), 300, 0, 0) if case != "ben" else moving_of(np.eye(4)), case)
    with pytest.raises(XModalError, match=r"anna_0001.nii.gz does not overlap .*\(1 other cases have faults, too.\)"):
        run(make_predictor(ANSWER))
