"""`nnUNetXModal_predict --roi` with a stock model of random weights, whose answers depend on all that it sees."""

import numpy as np
import pytest
import SimpleITK as sitk
from fast_ones import one_fast_in
from organ_scans import (
    DIRECTIONS,
    EVERYTHING,
    ORGAN,
    SIZE,
    SPACING,
    image_of,
    noise,
    probabilities,
    voxels,
    write,
)

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.organ_crop import box_around, crop
from nnunet_xmodal.geometry.resampling import same_grid


@pytest.mark.parametrize("dimensions, kind", one_fast_in(2, [(2, "labels"), (3, "regions")]))
def test_the_whole_image_is_predicted_to_the_bit_as_without(make_model, scans, run, tmp_path, dimensions, kind):
    model = make_model(dimensions, kind)
    scans(mask=EVERYTHING)
    plain = run(model, "plain", "--save_probabilities")
    cropped = run(model, "cropped", "--save_probabilities", "--roi", tmp_path / "masks")
    for case in ("anna", "bert"):
        assert len(np.unique(voxels(plain / f"{case}.nii.gz"))) > 1
        assert (plain / f"{case}.nii.gz").read_bytes() == (cropped / f"{case}.nii.gz").read_bytes()
        assert np.array_equal(probabilities(plain / f"{case}.npz"), probabilities(cropped / f"{case}.npz"))


@pytest.mark.parametrize(
    "direction, kind", one_fast_in(4, [*((direction, "labels") for direction in DIRECTIONS), ("oblique", "regions")])
)
def test_a_case_is_predicted_as_its_crop_and_lies_in_the_whole(make_model, scans, run, tmp_path, direction, kind):
    """To the bit what the cropped files give; beyond the crop there is background."""
    model, margin = make_model(3, kind), 3.0
    scans(DIRECTIONS[direction], cases=["anna"])
    box = box_around(image_of(ORGAN, DIRECTIONS[direction]), margin)
    for channel in range(2):
        whole = sitk.ReadImage(str(tmp_path / "in" / f"anna_000{channel}.nii.gz"))
        write(crop(whole, box), tmp_path, "cut", f"anna_000{channel}.nii.gz")
    cut = run(model, "of_cut", "--save_probabilities", images="cut")
    full = run(model, "full", "--save_probabilities", "--roi", tmp_path / "masks", "--margin", margin)
    prediction = sitk.ReadImage(str(full / "anna.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
    part = tuple(slice(first, first + side) for first, side in zip(box.start[::-1], box.size[::-1]))
    expected = np.zeros(SIZE[::-1], np.uint8)
    expected[part] = voxels(cut / "anna.nii.gz")
    assert expected.any() and np.array_equal(sitk.GetArrayFromImage(prediction), expected)
    found = probabilities(full / "anna.npz")
    assert np.array_equal(found[(slice(None), *part)], probabilities(cut / "anna.npz"))
    outside = np.ones(SIZE[::-1], bool)
    outside[part] = False
    assert (found[1 if kind == "labels" else 0 :, outside] == 0).all()
    assert kind == "regions" or (found[0, outside] == 1).all()


@pytest.mark.parametrize("dimensions", one_fast_in(2, [3, 2]))
def test_a_cascade_reads_the_same_part_of_the_stage_before(make_model, scans, run, tmp_path, dimensions):
    model, box = make_model(dimensions, cascade=True), box_around(image_of(ORGAN), 0.0)
    scans(cases=["anna"])
    stage = np.random.default_rng(7).integers(0, 3, SIZE[::-1]).astype(np.uint8)
    write(image_of(stage), tmp_path, "stage", "anna.nii.gz")
    for folder, file in (("in", "anna_0000"), ("in", "anna_0001"), ("stage", "anna")):
        whole = sitk.ReadImage(str(tmp_path / folder / f"{file}.nii.gz"))
        write(crop(whole, box), tmp_path, f"cut_{folder}", f"{file}.nii.gz")
    cut = run(model, "of_cut", "-prev_stage_predictions", tmp_path / "cut_stage", images="cut_in")
    full = run(model, "full", "-prev_stage_predictions", tmp_path / "stage", "--roi", tmp_path / "masks")
    part = ORGAN.astype(bool)
    assert np.array_equal(voxels(full / "anna.nii.gz")[part], voxels(cut / "anna.nii.gz").ravel())
    assert not voxels(full / "anna.nii.gz")[~part].any()


def test_masks_of_any_grid_ending_and_value(make_model, scans, run, tmp_path):
    """The same box, as a mask on the image's grid, and of 0.5 mm voxels about it in straight axes."""
    model = make_model()
    scans(direction=np.eye(3), cases=["anna"])
    usual = run(model, "usual", "--roi", tmp_path / "masks", "--margin", 2)
    fine = np.zeros((80, 80, 80), np.uint8)
    z, y, x = np.meshgrid(*[np.arange(80) * 0.5] * 3, indexing="ij")
    inside = [
        (np.round(axis / mm) >= low) & (np.round(axis / mm) <= high)
        for axis, mm, low, high in zip((z, y, x), SPACING[::-1], (3, 6, 5), (6, 14, 13))
    ]
    fine[np.logical_and.reduce(inside)] = 7
    fine[:3, :3, :3] = 2
    write(image_of(fine, np.eye(3), (0.5,) * 3), tmp_path, "fine", "anna.mha")
    other = run(model, "other", "--roi", tmp_path / "fine", "--roi_label", 7, "--margin", 2)
    assert np.array_equal(voxels(usual / "anna.nii.gz"), voxels(other / "anna.nii.gz"))
    # ±2 mm: two voxels of 1 mm, two of 1.3 mm, one of 2.5 mm
    assert voxels(usual / "anna.nii.gz")[2, 4, 3:16].any() and not voxels(usual / "anna.nii.gz")[:2].any()
    assert not voxels(usual / "anna.nii.gz")[:, :4].any() and not voxels(usual / "anna.nii.gz")[..., :3].any()


def test_the_margin_is_that_of_the_training(make_model, scans, run, tmp_path, capsys):
    model = make_model(xmodal={"roi": {"margin_mm": 2.0}})
    scans(cases=["anna"])
    by_default = run(model, "default", "--roi", tmp_path / "masks")
    assert "Warning" not in capsys.readouterr().out
    by_flag = run(model, "flag", "--roi", tmp_path / "masks", "--margin", 2)
    assert (by_default / "anna.nii.gz").read_bytes() == (by_flag / "anna.nii.gz").read_bytes()
    run(model, "other", "--roi", tmp_path / "masks", "--margin", 0)
    assert "trained with a margin of 2 mm, and --margin is 0." in capsys.readouterr().out
    run(model, "whole")
    assert "trained on images cropped to an organ and 2 mm around it" in capsys.readouterr().out


def test_a_model_of_whole_images_says_so(make_model, scans, run, tmp_path, capsys):
    model = make_model()
    scans(cases=["anna"])
    run(model, "whole")
    assert "Warning" not in capsys.readouterr().out
    run(model, "cropped", "--roi", tmp_path / "masks")
    assert "Warning: the model was trained on whole images" in capsys.readouterr().out


def test_parts_and_what_is_there_already(make_model, scans, run, tmp_path):
    """Masks are needed of the cases that a call predicts, and of no others."""
    model = make_model()
    scans()
    (tmp_path / "masks" / "bert.nii.gz").unlink()
    output = run(model, "out", "--roi", tmp_path / "masks", "-num_parts", 2, "-part_id", 0)
    assert sorted(file.name for file in output.glob("*.nii.gz")) == ["anna.nii.gz"]
    (output / "bert.nii.gz").write_bytes((tmp_path / "in" / "bert_0000.nii.gz").read_bytes())
    run(model, "out", "--roi", tmp_path / "masks", "--continue_prediction")
    assert (output / "bert.nii.gz").read_bytes() == (tmp_path / "in" / "bert_0000.nii.gz").read_bytes()


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_a_reader_that_turns_the_axes(make_model, scans, run, tmp_path, reader):
    """nnU-Net's reorienting readers see other axes than the file has; the crop is about the same voxels."""
    model = make_model(reader=reader)
    scans(DIRECTIONS["axes swapped"], cases=["anna"])
    output = run(model, "out", "--roi", tmp_path / "masks")
    prediction = sitk.ReadImage(str(output / "anna.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
    found = sitk.GetArrayFromImage(prediction) != 0
    assert found[ORGAN != 0].any() and not found[ORGAN == 0].any()


def test_pictures_have_masks_of_their_size(make_model, run, tmp_path):
    model = make_model(2, reader="NaturalImage2DIO", file_ending=".png")
    for channel in range(2):
        picture = sitk.GetImageFromArray(noise(channel)[0].astype(np.uint8))
        write(picture, tmp_path, "in", f"anna_000{channel}.png")
    organ = ORGAN[4]
    write(sitk.GetImageFromArray(organ), tmp_path, "masks", "anna.png")
    found = voxels(run(model, "out", "--roi", tmp_path / "masks", "--margin", 1) / "anna.png")
    box = np.zeros_like(organ, bool)
    box[5:16, 4:15] = True
    assert found.shape == organ.shape and found[box].any() and not found[~box].any()
    write(sitk.GetImageFromArray(organ[1:]), tmp_path, "masks", "anna.png")
    with pytest.raises(XModalError, match=r"anna.png has 21×26 pixels and the image 22×26"):
        run(model, "again", "--roi", tmp_path / "masks")


@pytest.mark.slow  # starts processes
def test_attention_maps_lie_on_the_whole_image(make_model, scans, run, tmp_path):
    model = make_model(trainer="nnUNetTrainerMultiStream")
    scans(cases=["anna"])
    output = run(model, "out", "--roi", tmp_path / "masks", "--attention_maps")
    maps = sorted((output / "attention_maps").iterdir())
    assert len(maps) == 6
    for file in maps:
        assert same_grid(sitk.ReadImage(str(file)), sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
        assert (voxels(file)[ORGAN != 0] != 0).any() and not voxels(file)[ORGAN == 0].any()


def test_cases_that_lack_channels_are_cropped_too(make_model, scans, run, tmp_path):
    """A complete and a partial case, to the bit what the cropped files give."""
    model = make_model(3, trainer="nnUNetTrainerMultiStreamDropout")
    scans()
    (tmp_path / "in" / "bert_0001.nii.gz").unlink()
    whole = run(model, "whole", "--roi", tmp_path / "masks", "--allow_missing")
    for file in (tmp_path / "in").iterdir():
        mask = sitk.ReadImage(str(tmp_path / "masks" / file.name.replace("_0000", "").replace("_0001", "")))
        write(crop(sitk.ReadImage(str(file)), box_around(mask, 0)), tmp_path, "crops", file.name)
    cropped = run(model, "cropped", "--allow_missing", images="crops")
    for case in ("anna", "bert"):
        inside = voxels(whole / f"{case}.nii.gz")[ORGAN > 0]
        assert len(np.unique(inside)) > 1
        np.testing.assert_array_equal(inside, voxels(cropped / f"{case}.nii.gz").ravel())
        assert not voxels(whole / f"{case}.nii.gz")[ORGAN == 0].any()


@pytest.mark.slow  # with the one above
def test_files_of_an_absent_stream_are_not_looked_at(make_model, scans, run, tmp_path):
    """Of a stream that lacks a channel the other one may lie elsewhere: the crop is that of the rest."""
    model = make_model(3, trainer="nnUNetTrainerMultiStreamDropout", streams=((0, 1), (2,)))
    scans(cases=["anna"])
    folder = tmp_path / "in"
    (folder / "anna_0001.nii.gz").rename(folder / "anna_0002.nii.gz")
    write(image_of(noise(9)[:5, :7, :6], np.eye(3), (9, 9, 9)), folder, "anna_0000.nii.gz")
    elsewhere = run(model, "elsewhere", "--roi", tmp_path / "masks", "--allow_missing")
    (folder / "anna_0000.nii.gz").unlink()
    without = run(model, "without", "--roi", tmp_path / "masks", "--allow_missing")
    found = voxels(elsewhere / "anna.nii.gz")
    assert found[ORGAN != 0].any() and np.array_equal(found, voxels(without / "anna.nii.gz"))
