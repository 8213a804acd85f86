"""Validations that a full disk has cut short are made again."""

import pytest
import SimpleITK as sitk

from nnunet_xmodal.crossval.job_start import JobStart, start_of
from nnunet_xmodal.crossval.whole_files import validate_again


@pytest.fixture
def finished(make_job, write_checkpoint, write_summary):
    """A job with two predictions, as another system has listed one of them, and one that somebody has deleted."""
    job = make_job()
    names = ["/there/validation/a.nii.gz", "C:\\there\\validation\\b.nii.gz", "/there/validation/deleted.nii.gz"]
    listed = [{"prediction_file": name, "metrics": {}} for name in names]
    write_checkpoint(job, "final")
    write_summary(job, {"foreground_mean": {"Dice": 0.5}, "metric_per_case": listed})
    for case in "ab":
        sitk.WriteImage(sitk.Image(9, 9, 9, sitk.sitkUInt8), str(job.folder / "validation" / f"{case}.nii.gz"))
    return job


def test_what_is_whole_stays(finished, capsys):
    validate_again([finished])
    assert start_of(finished) is JobStart.FINISHED and not capsys.readouterr().err


@pytest.mark.parametrize("left", [0, 20, -1])
def test_half_a_prediction_is_validated_again(finished, capsys, left):
    file = finished.folder / "validation" / "b.nii.gz"
    file.write_bytes(file.read_bytes()[:left])
    validate_again([finished])
    assert start_of(finished) is JobStart.VALIDATE
    assert capsys.readouterr().err == f"{file} is cut off: {finished.name} is validated again.\n"


def test_jobs_that_are_not_finished_are_left_alone(make_job):
    validate_again([make_job()])
