"""Cases cropped to an organ, and results on crops pasted back onto the whole images."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from preparation_runs import NAME, T2W, USUAL, image, rows_of, run

from nnunet_xmodal.commands import paste
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.organ_crop import empty_grid
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.preparation.paste import paste_folder


@pytest.mark.parametrize("by", ["label", "value", "folder"])
def test_a_crop_is_a_part_of_the_whole_and_goes_back(patients, scans, raw, tmp_path, by):
    """Every voxel of a cropped channel, resampled or not, is the whole image's; a prediction on it is pasted back."""
    run(patients, *USUAL)
    if by == "folder":
        for name in ("anna", "bert", "carl"):
            mask = scans.ball_of(scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3)))
            scans.write(mask, tmp_path / "masks" / f"{name}.nii.gz")
    roi = {"label": "lesion", "value": "1", "folder": tmp_path / "masks"}[by]
    run(patients, *USUAL, "--roi", roi, "--margin", 2, output="Dataset511_Crop")
    record = json.loads((raw / "Dataset511_Crop" / "preparation" / "records" / "anna.json").read_text())
    full = empty_grid(**record["grid"])
    assert same_grid(full, image(raw, "imagesTr/anna_0000.nii.gz"))
    start, size = record["box"]["start"], record["box"]["size"]
    part = tuple(slice(first, first + side) for first, side in zip(start[::-1], size[::-1]))
    for file in ("imagesTr/anna_0000.nii.gz", "imagesTr/anna_0001.nii.gz", "labelsTr/anna.nii.gz"):
        cropped, whole = image(raw, file, "Dataset511_Crop"), sitk.GetArrayFromImage(image(raw, file))
        assert cropped.GetSize() == tuple(size) and np.prod(size) < whole.size
        assert np.allclose(sitk.GetArrayFromImage(cropped), whole[part], rtol=1e-4, atol=1e-2)
    paste.main(["-i", str(raw / "Dataset511_Crop" / "labelsTr"), "-o", str(tmp_path / "back"), "-d", "511"])
    for name in ("anna", "bert", "carl"):
        files = tmp_path / "back" / f"{name}.nii.gz", patients / name / "seg.nii.gz"
        back, label = (sitk.ReadImage(str(file)) for file in files)
        assert same_grid(back, label)
        assert np.array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(label))


def test_what_cannot_be_pasted_is_a_sentence(patients, raw, tmp_path):
    run(patients, *USUAL)
    labels, output = raw / NAME / "labelsTr", tmp_path / "back"
    (tmp_path / "empty").mkdir()
    for dataset, folder, sentence in (
        ("777", labels, "-d 777 names no dataset"),
        (NAME, tmp_path / "empty", "holds no files that end in .nii.gz"),
        ("Dataset512_Other", labels, "was not made by nnUNetXModal_prepare"),
    ):
        (raw / "Dataset512_Other").mkdir(exist_ok=True)
        with pytest.raises(XModalError, match=sentence):
            paste_folder(folder, dataset, output)
    paste_folder(labels, NAME, output)
    with pytest.raises(XModalError, match=r"anna.nii.gz exists: give another folder, or --overwrite"):
        paste_folder(labels, NAME, output)
    with pytest.raises(XModalError, match="is the folder that -i reads"):
        paste_folder(labels, NAME, labels, overwrite=True)
    (labels / "._anna.nii.gz").touch()  # as macOS leaves them
    assert len(paste_folder(raw / NAME / "imagesTr", NAME, output, overwrite=True)) == 6  # <case>_0000.nii.gz as well
    (labels / "anna.nii.gz").rename(labels / "nina.nii.gz")
    with pytest.raises(XModalError, match=r"nina.nii.gz is of no case that Dataset510_Prostate holds"):
        paste_folder(labels, NAME, output, overwrite=True)
    (labels / "nina.nii.gz").rename(labels / "anna.nii.gz")
    other = sitk.ReadImage(str(labels / "anna.nii.gz"))
    other.SetOrigin((0.0, 0.0, 0.0))
    sitk.WriteImage(other, str(labels / "anna.nii.gz"))
    with pytest.raises(XModalError, match=r"anna.nii.gz: the cropped image does not lie on voxels of the full one"):
        paste_folder(labels, NAME, output, overwrite=True)


def test_prediction_learns_what_was_cropped(patients, raw):
    run(patients, *USUAL, "--roi", "lesion", "--margin", 2, "--streams", "T2W", "ADC")
    dataset_json = json.loads((raw / NAME / "dataset.json").read_text())
    assert dataset_json["xmodal"] == {"streams": [["T2W"], ["ADC"]], "roi": {"margin_mm": 2.0}}


def test_values_of_masks_are_chosen(patients, scans, raw, tmp_path, capsys):
    """A multi-organ mask: the organ is one of its values."""
    for name in ("anna", "bert", "carl"):
        grid = scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3))
        mask = scans.ball_of(grid, 6, (4, 0, 0), 2) + scans.ball_of(grid, 5, (-14, 0, 0), 1)
        scans.write(mask, tmp_path / "masks" / f"{name}.nii.gz")
        scans.write(mask == 2, tmp_path / "one" / f"{name}.nii.gz")
    run(patients, *USUAL, "--roi", tmp_path / "masks", "--roi_label", 2)
    run(patients, *USUAL, "--roi", tmp_path / "one", output="Dataset511_One")
    for file in sorted((raw / NAME / "imagesTr").iterdir()):
        assert file.read_bytes() == (raw / "Dataset511_One" / "imagesTr" / file.name).read_bytes()
    run(patients, *USUAL, "--roi", tmp_path / "one", "--roi_label", 3, output="Dataset512_None", code=1)
    assert "has no voxel of 3: there is nothing to crop to" in rows_of(raw, "Dataset512_None")["anna", ""]["note"]
    run(patients, *USUAL, "--roi", "lesion", "--roi_label", 2, output="Dataset513_None", code=2)
    assert "--roi_label says which values of masks are the organ" in capsys.readouterr().err


def test_a_channel_that_misses_the_organ_is_remarked_on(patients, scans, raw):
    """ADC covers more than half of T2W, but not where the lesion is."""
    t2w = scans.grid_around(*T2W, np.eye(3))
    scans.write(sitk.Cast(scans.scan_of(t2w), sitk.sitkInt16), patients / "anna" / "t2w.nii.gz")
    scans.write(
        scans.scan_of(scans.grid_around((18, 18, 20), (2, 2, 2), np.eye(3), (12, 0, 0))), patients / "anna" / "adc.mha"
    )
    scans.write(scans.ball_of(t2w, 3, (-11, 0, 0)), patients / "anna" / "seg.nii.gz")
    run(patients, *USUAL, "--roi", "lesion")
    assert rows_of(raw)["anna", "ADC"]["note"] == "covers 0 % of the crop"
    assert not rows_of(raw)["bert", "ADC"]["note"]


def test_a_case_without_a_mask_is_listed(patients, scans, raw, tmp_path):
    scans.write(
        scans.ball_of(scans.grid_around((22, 22, 22), (2, 2, 2), np.eye(3))), tmp_path / "masks" / "anna.nii.gz"
    )
    run(patients, *USUAL, "--roi", tmp_path / "masks", code=1)
    assert "--roi needs a mask for every case" in rows_of(raw)["bert", ""]["note"]
    assert (raw / NAME / "imagesTr" / "anna_0000.nii.gz").is_file()
