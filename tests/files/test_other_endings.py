"""Images that nnU-Net would pass over are named."""

import pytest

from nnunet_xmodal.datasets.cases import files_by_channel
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.other_endings import images_of_other_endings


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    "other", ["b_0000.NII.GZ", "b_0000.nii", "b_0000.Nii.gz", "b_0000.mha", "b_0000.png", "b.dcm", "b_0000.nrrd"]
)
def test_an_image_of_another_ending_is_named(tmp_path, capsys, other):
    touch(tmp_path, "a_0000.nii.gz", other)
    assert list(files_by_channel(tmp_path, ".nii.gz")) == ["a"]
    told = capsys.readouterr().err
    assert f"remark: {tmp_path / other} is not read" in told and "files that end in .nii.gz" in told
    files_by_channel(tmp_path, ".nii.gz")
    assert capsys.readouterr().err == ""  # once is enough


def test_several_are_counted(tmp_path, capsys):
    touch(tmp_path, "a_0000.mha", "b_0000.MHA", "c_0000.MHA")
    files_by_channel(tmp_path, ".mha")
    assert "b_0000.MHA and 1 more are not read" in (told := capsys.readouterr().err) and "rename them" in told


def test_none_but_others(tmp_path):
    touch(tmp_path, "a_0000.NII.GZ")
    with pytest.raises(XModalError, match=r"no files that end in \.nii\.gz; .*a_0000\.NII\.GZ is not read.*rename"):
        files_by_channel(tmp_path, ".nii.gz")


def test_what_is_no_case_is_not_named(tmp_path):
    touch(
        tmp_path, "a_0000.nii.gz", "dataset.json", "plans.json", "a.npz", "a.pkl", "._b_0000.nii", "notes.txt", "a.raw"
    )
    (tmp_path / "attention_maps").mkdir()
    assert images_of_other_endings(tmp_path, ".nii.gz") == []
