"""`nnUNetXModal_predict` with reconstructions: what is read, in which unit, and what is written where."""

from dataclasses import fields
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import one_fast_in
from field_predictions import OBLIQUE, ORIGIN, SHAPE, SPACING, Scaled, outputs, read
from scipy.spatial.transform import Rotation
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.rescaled import Rescaled
from nnunet_xmodal.physics.units import one_ppm_in
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor


@pytest.mark.parametrize(
    "axes, network",
    one_fast_in(3, product([(), (0, 1, 2)], [Scaled(), Rescaled(nn.Identity(), [0.008], 0.008)])),
    ids=["plain", "rescaled", "mirrored", "mirrored and rescaled"],
)
def test_an_identity_network_returns_its_input_through_the_whole_prediction(
    make_predictor, write, field, tmp_path, network, axes, run, drawn
):
    write("anna_0000.nii.gz", field)
    run(make_predictor(network, axes=axes))
    assert outputs(tmp_path) == ["anna.nii.gz", "anna.png"]
    made = read(tmp_path / "out" / "anna.nii.gz")
    np.testing.assert_allclose(made, field, rtol=1e-5, atol=1e-5 * np.abs(field).max())
    image = sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz"))
    assert image.GetPixelID() == sitk.sitkFloat32
    for ours, theirs in (
        (image.GetSpacing(), SPACING),
        (image.GetOrigin(), ORIGIN),
        (image.GetDirection(), OBLIQUE.ravel()),
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "of_training, flags, unit",
    [
        (None, ["--field_unit", "Hz", "--B0", 3], ("Hz", 3.0)),
        ({"unit": "Hz", "B0": 7.0}, [], ("Hz", 7.0)),
        ({"unit": "Hz", "B0": 7.0}, ["--B0", 3], ("Hz", 3.0)),
        ({"unit": "Hz", "B0": 7.0}, ["--field_unit", "ppm"], ("ppm",)),
        (None, ["--field_unit", "rad", "--B0", 3, "--TE", 0.02], ("rad", 3.0, 0.02)),
    ],
)
def test_maps_are_in_ppm_whatever_the_unit_of_the_field(
    make_predictor, write, field, tmp_path, of_training, flags, unit, run
):
    write("anna_0000.nii.gz", field * np.float32(one_ppm_in(*unit)))
    run(make_predictor(field=of_training), *flags)
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), field, rtol=1e-4, atol=1e-6)


def test_only_the_field_is_in_the_fields_unit(make_predictor, write, field, tmp_path, run):
    write("anna_0000.nii.gz", field * np.float32(one_ppm_in("Hz", 3.0)))
    write("anna_0001.nii.gz", np.full(SHAPE, 800, np.float32))
    network = Scaled()
    run(make_predictor(network, channels=3), "--field_unit", "Hz", "--B0", 3)
    assert max(network.seen) == 800
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), field, rtol=1e-4, atol=1e-6)


def test_outside_the_mask_there_is_nothing(make_predictor, write, field, tmp_path, run):
    everywhere = field + np.float32(0.01)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 5:9, 4:8] = 1
    write("anna_0000.nii.gz", everywhere), write("anna.nii.gz", mask, folder="masks")
    run(make_predictor(), "--mask", tmp_path / "masks")
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), everywhere * mask, rtol=1e-4, atol=1e-6)


def test_a_soft_mask_counts_from_a_half_on(make_predictor, write, field, tmp_path, run):
    everywhere = field + np.float32(0.1)
    mask = np.full(SHAPE, 0.001, np.float32)
    mask[1:6, 4:10, 3:9], mask[2:5, 5:9, 4:8] = 0.4, 0.9
    write("anna_0000.nii.gz", everywhere), write("anna.nii.gz", mask, folder="masks")
    run(make_predictor(), "--mask", tmp_path / "masks")
    inside = mask > 0.5
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), everywhere * inside, rtol=1e-4, atol=1e-6)


def test_without_a_mask_the_region_of_the_field_with_its_holes_counts(make_predictor, write, field, tmp_path, run):
    field[4:6, 8:10, 6:8] = 0  # a hole
    write("anna_0000.nii.gz", field)

    class Plus(Scaled):
        def forward(self, x):
            return x + 1

    run(make_predictor(Plus()))
    result = read(tmp_path / "out" / "anna.nii.gz")
    expected = np.zeros(SHAPE)
    expected[1:-1, 3:-2, 2:-3] = field[1:-1, 3:-2, 2:-3] + 1
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_cases_are_mirrored_only_where_training_and_case_allow_it(make_predictor, write, field, run):
    along_z = np.eye(3)
    in_plane_of_z_and_y = Rotation.from_euler("x", 20, degrees=True).as_matrix()
    for name, direction in (("a", along_z), ("b", in_plane_of_z_and_y), ("c", OBLIQUE)):
        write(f"{name}_0000.nii.gz", field, direction)

    def calls(axes, *flags):
        counts = []
        for number in range(3):
            network = Scaled()
            run(make_predictor(network, axes=axes), "-num_parts", 3, "-part_id", number, *flags)
            counts.append(len(network.seen))
        return np.array(counts)

    tiles = calls(())
    assert (calls((0, 1, 2)) == tiles * (8, 2, 1)).all()
    assert (calls((0, 2)) == tiles * (4, 2, 1)).all()
    x_of_b0 = [str(component) for component in in_plane_of_z_and_y[:, 2]]
    assert (calls((0, 1, 2), "--b0_direction", *x_of_b0) == tiles * (2, 8, 1)).all()


def test_folds_are_averaged(make_predictor, write, field, tmp_path, run):
    write("anna_0000.nii.gz", field)
    predictor = make_predictor()
    predictor.list_of_parameters = [{"weight": torch.tensor(weight)} for weight in (1.0, 2.0, 6.0)]
    run(predictor)
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), 3 * field, rtol=1e-4, atol=1e-6)


def test_what_is_there_is_not_made_again(make_predictor, write, field, tmp_path, run):
    write("anna_0000.nii.gz", field)
    run(make_predictor())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    write("ben_0000.nii.gz", field)
    run(make_predictor(), "--continue_prediction")
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert outputs(tmp_path) == ["anna.nii.gz", "anna.png", "ben.nii.gz", "ben.png"]
    run(make_predictor(), "--continue_prediction")  # nothing is left


def test_a_general_reconstruction_knows_nothing_of_fields(make_predictor, write, tmp_path, run):
    image = np.random.default_rng(1).uniform(100, 900, SHAPE).astype(np.float32)
    write("anna_0000.nii.gz", image)
    run(make_predictor(kind=ReconstructionPredictor))
    np.testing.assert_allclose(read(tmp_path / "out" / "anna.nii.gz"), image, rtol=1e-5)
    assert "B0" not in {each.name for each in fields(ReconstructionPredictor.options_class)}


def test_a_reader_that_turns_images_and_masks_turns_maps_back(make_predictor, write, field, tmp_path, run):
    sagittal = np.eye(3)[:, [1, 2, 0]]
    write("anna_0000.nii.gz", field, sagittal)
    write("anna.nii.gz", (field != 0).astype(np.uint8), sagittal, folder="masks")
    predictor = make_predictor()
    plans = predictor.plans_manager.plans
    plans["image_reader_writer"] = "SimpleITKIOWithReorient"
    plans["configurations"]["3d_fullres"]["spacing"] = [SPACING[1], SPACING[0], SPACING[2]]  # of the turned image
    run(predictor, "--mask", tmp_path / "masks")
    image = sitk.ReadImage(str(tmp_path / "out" / "anna.nii.gz"))
    np.testing.assert_allclose(image.GetDirection(), sagittal.ravel(), atol=1e-6)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), field, atol=1e-6)


@pytest.mark.slow
def test_arrays_and_lists_of_files_are_predicted_without_a_mask(make_predictor, write, field, tmp_path):
    write("anna_0000.nii.gz", field)
    predictor = make_predictor()
    place = {"spacing": SPACING[::-1], "sitk_stuff": {"direction": OBLIQUE.ravel().tolist()}}
    np.testing.assert_allclose(predictor.predict_single_npy_array(field[None], place)[0], field, atol=1e-6)
    predictor.predict_from_files_sequential([[str(tmp_path / "in" / "anna_0000.nii.gz")]], [str(tmp_path / "anna")])
    np.testing.assert_allclose(read(tmp_path / "anna_0000.nii.gz"), field, atol=1e-6)


def empty(volume):
    return np.zeros(volume.shape, np.uint8)


@pytest.mark.parametrize(
    "files, flags, sentence",
    [
        (
            {"anna_0001": "field"},
            [],
            r"anna_0001.nii.gz has the number of the target \(susceptibility\), which this model predicts: take it",
        ),
        ({"anna_0002": "field"}, [], "anna_0002.nii.gz is one channel too many: the model reads field"),
        ({"anna_0000": "nan"}, [], "anna_0000.nii.gz holds NaN or infinite voxels"),
        ({"anna_0000": "zero"}, [], "anna_0000.nii.gz is 0 everywhere"),
        ({"anna_0000": "hertz"}, [], "read as ppm, reaches .* say its unit with --field_unit"),
        ({}, ["--field_unit", "Hz"], r"needs the strength of the main field \(B0\)"),
        ({}, ["--b0_direction", 0, 0, 0], "not all 0"),
        ({}, ["--mask", "masks"], "anna.nii.gz is missing: every case needs one in the folder of --mask"),
        ({"masks": "empty"}, ["--mask", "masks"], "the mask .*anna.nii.gz is empty: draw the brain in it"),
        ({"masks": "small"}, ["--mask", "masks"], "anna.nii.gz has the size .* resample the mask onto the image's"),
        ({"anna_0000": "rad"}, [], "read as ppm, has a standard deviation of .* and those of the training .* its unit"),
        ({"anna_0000": "ppb"}, ["--field_unit", "ppm"], "read as ppm, has a standard deviation of"),
        ({}, ["--consistency", 0], "--consistency must be above 0, and is 0.0"),
        ({}, ["--reference_region", "masks"], "anna.nii.gz is missing: .* of --reference_region, or leave that out"),
        ({"masks": "empty"}, ["--reference_region", "masks"], "the mask .*anna.nii.gz is empty"),
        ({"masks": "beyond"}, ["--reference_region", "masks"], "has no voxel inside the mask of anna: draw it within"),
        ({}, ["--save_probabilities"], "no probabilities to save"),
        ({}, ["-o", "in"], "is the folder that -i reads"),
        ({"masks": "full"}, ["--mask", "masks", "-o", "masks"], "is the folder that --mask reads"),
        ({"masks": "full"}, ["--reference_region", "masks", "-o", "masks"], "folder that --reference_region reads"),
    ],
)
def test_refusals_before_anything_is_written(make_predictor, write, field, tmp_path, files, flags, sentence, run):
    kinds = {
        "field": field,
        "zero": 0 * field,
        "hertz": field * 1000,
        "nan": np.where(field > 0.03, np.nan, field),
        "empty": empty(field),
        "small": empty(field)[1:] + 1,
        "full": empty(field) + 1,
        "rad": field * 16,
        "ppb": field / 1000,
        "beyond": (field == 0).astype(np.uint8) * (np.arange(SHAPE[0]) == 0)[:, None, None].astype(np.uint8),
    }
    write("anna_0000.nii.gz", field)
    for name, kind in files.items():
        if name == "masks":
            write("anna.nii.gz", kinds[kind], folder="masks")
        else:
            write(f"{name}.nii.gz", kinds[kind])
    before = sorted(path for path in tmp_path.rglob("*"))
    flags = [tmp_path / flag if flag in ("masks", "in") else flag for flag in flags]
    with pytest.raises(XModalError, match=sentence):
        run(make_predictor(), *flags)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_missing_input_is_named(make_predictor, write, field, run):
    write("anna_0000.nii.gz", field)
    with pytest.raises(XModalError, match=r"anna_0001.nii.gz is missing: case anna needs channel 1 \(magnitude\)"):
        run(make_predictor(channels=3))
