"""Cases whose files are stored along other axes than the model's."""

from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
from fast_ones import one_fast_in
from organ_scans import turn_files, voxels

from nnunet_xmodal.geometry.resampling import same_grid


@pytest.mark.parametrize("code, roi", one_fast_in(3, product(["RAI", "PSR"], [False, True])))
def test_a_model_of_turned_cases_turns_its_cases_and_results_back(make_model, scans, run, tmp_path, capsys, code, roi):
    """What `nnUNetXModal_prepare --orientation` has recorded; the same as of a case that is stored like that."""
    model = make_model(3, xmodal={"orientation": "LPS"})
    scans()
    flags = ["--roi", tmp_path / "masks"] if roi else []
    expected = run(model, "out", *flags)
    turn_files(tmp_path / "in", code)
    capsys.readouterr()
    found = run(model, "again", *flags)
    assert f"2 of 2 cases, for example anna ({code}), are turned to LPS" in capsys.readouterr().out
    for case in ("anna", "bert"):
        ours, given = (
            sitk.ReadImage(str(file)) for file in (found / f"{case}.nii.gz", tmp_path / "in" / f"{case}_0000.nii.gz")
        )
        assert same_grid(ours, given) and ours.GetSize() == given.GetSize()
        back = sitk.GetArrayFromImage(sitk.DICOMOrient(ours, "LPS"))
        assert np.array_equal(back, voxels(expected / f"{case}.nii.gz")) and len(np.unique(back)) > 1


def test_cases_stored_otherwise_are_told_where_a_model_was_not_turned(make_model, scans, run, tmp_path, capsys):
    model = make_model(3)
    scans()
    for file in (tmp_path / "in").glob("bert*"):
        sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(file)), "RAI"), str(file))
    run(model, "out")
    told = capsys.readouterr().err
    assert "remark: bert (RAI) is stored along other axes than the rest (LPS)" in told and "--orientation LPS" in told
    assert "remark, again: bert (RAI)" in told  # at the end
