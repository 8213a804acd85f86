"""What nnU-Net writes in place is told apart from what was cut off; mistakes of a person are not taken for that."""

import json
import os

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.in_place import (
    check_whole,
    discard_cut_fingerprint,
    discard_cut_plans,
    discard_cut_split,
    discard_other_labels,
    is_cut_json,
)
from nnunet_xmodal.files.stand_ins import save_json, stand_ins

PLANS = {"plans_name": "nnUNetPlans", "configurations": {"2d": {"spacing": [1.5, None], "batch": True, "ö": {}}}}


def test_every_beginning_of_json_is_cut_off(tmp_path):
    file, text = tmp_path / "a.json", json.dumps(PLANS, indent=1, ensure_ascii=False).encode()
    for left in range(len(text)):
        file.write_bytes(text[:left])
        assert is_cut_json(file), left
        file.write_bytes(text[:left] + bytes(len(text) - left))
        assert is_cut_json(file), left
    file.write_bytes(text + b"\n")
    assert not is_cut_json(file)


@pytest.mark.parametrize("change", [('"batch"', "batch"), ("[1.5, ", "[1.5 "), ("{}", "{},"), (": true", "")])
def test_a_mistake_in_json_is_none(tmp_path, change):
    """Whoever has edited plans by hand does not want them deleted."""
    file = tmp_path / "nnUNetPlans.json"
    file.write_text(json.dumps(PLANS, ensure_ascii=False).replace(*change))
    before = file.read_text()
    assert not is_cut_json(file)
    with pytest.raises(XModalError, match=r"nnUNetPlans\.json is not valid JSON: correct it, or delete it"):
        discard_cut_plans(file)
    assert file.read_text() == before


def test_plans_and_fingerprints_that_are_cut_off_go(tmp_path, capsys):
    for name, discard in (
        ("nnUNetPlans.json", lambda: discard_cut_plans(tmp_path / "nnUNetPlans.json")),
        ("dataset_fingerprint.json", lambda: discard_cut_fingerprint(tmp_path)),
    ):
        file = tmp_path / name
        discard()  # nothing there
        file.write_text(json.dumps(PLANS))
        discard()
        assert file.is_file() and not capsys.readouterr().out
        file.write_text(json.dumps(PLANS)[:30])
        discard()
        assert not file.exists() and capsys.readouterr().out == f"{file} is cut off or damaged: it is made again.\n"


def test_a_split_that_is_cut_off_goes_if_there_is_another(tmp_path):
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    raw.mkdir(), preprocessed.mkdir()
    (preprocessed / "splits_final.json").write_text('[{"train": [')
    discard_cut_split(preprocessed, raw)
    assert (preprocessed / "splits_final.json").is_file()  # may have been somebody's own: crossval says so
    (raw / "splits_final.json").write_text("[]")
    discard_cut_split(preprocessed, raw)
    assert not (preprocessed / "splits_final.json").exists()


def test_labels_that_are_not_those_of_the_dataset_go(tmp_path):
    """nnU-Net copies newer files only, and half a copy is newer than what it was made from."""
    labels, folder = {}, tmp_path / "gt_segmentations"
    folder.mkdir()
    for number, case in enumerate("abcd"):
        labels[case] = tmp_path / f"{case}.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(np.full((4, 4, 4), number, np.uint8)), str(labels[case]))
        (folder / f"{case}.nii.gz").write_bytes(labels[case].read_bytes())
    os.truncate(folder / "b.nii.gz", 30)
    (folder / "c.nii.gz").write_bytes(labels["a"].read_bytes())
    (folder / "d.nii.gz").unlink()
    discard_other_labels(labels, tmp_path, ".nii.gz")
    assert [file.name for file in folder.iterdir()] == ["a.nii.gz"]


def test_the_first_file_that_is_not_whole_is_named(tmp_path):
    for name in ("a.json", "b.json", "c.json"):
        (tmp_path / name).write_text("{}")
    check_whole([tmp_path / "a.json", tmp_path / "b.json"], "no")
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(XModalError, match=r"b\.json is missing, cut off or damaged \(1 other files are, too\): start"):
        check_whole([tmp_path / f"{name}.json" for name in "abd"], "start again")


def test_json_that_stands_in_for_nnunets_has_the_same_bytes(tmp_path, full_disk):
    from batchgenerators.utilities import file_and_folder_operations as theirs

    theirs.save_json(PLANS, str(tmp_path / "theirs.json"), sort_keys=False)
    theirs.save_json(PLANS, str(tmp_path / "sorted.json"))
    with stand_ins({"save_json": save_json, "absent": print}, theirs):
        theirs.save_json(PLANS, str(tmp_path / "ours.json"), sort_keys=False)
        theirs.save_json(PLANS, str(tmp_path / "ours_sorted.json"))
        with full_disk(50), pytest.raises(XModalError, match=r"ours\.json could not be written because the disk is fu"):
            theirs.save_json(PLANS, str(tmp_path / "ours.json"))
    assert theirs.save_json is not save_json and not hasattr(theirs, "absent")
    content = {file.stem: file.read_bytes() for file in tmp_path.iterdir()}
    assert content["ours"] == content["theirs"] and content["ours_sorted"] == content["sorted"]
