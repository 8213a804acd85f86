"""Masks and units that would spoil a reconstruction."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.heads import susceptibility_phantom
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.measured_field import FieldGeometry
from nnunet_xmodal.physics.units import one_ppm_in
from nnunet_xmodal.tasks.reconstruction.checks import (
    check_ends_with_mask,
    check_field,
    check_field_of_map,
    check_mask,
    check_susceptibility,
    first_fault,
)

JSON = {"channel_names": {"0": "field"}, "file_ending": ".nii.gz"}


def write(folder, name, array, spacing=(1.0, 1.0, 2.0)):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    file = folder / name
    sitk.WriteImage(image, str(file))
    return file


def test_masks(tmp_path):
    image = write(tmp_path, "image.nii.gz", np.zeros((4, 5, 6), np.float32))
    inside = np.zeros((4, 5, 6), np.uint8)
    with pytest.raises(XModalError, match="empty.nii.gz is empty: draw the brain in it"):
        check_mask(write(tmp_path, "empty.nii.gz", inside), image, JSON)
    inside[1:3, 1:3] = 255
    check_mask(write(tmp_path, "good.nii.gz", inside), image, JSON)
    with pytest.raises(XModalError, match="small.nii.gz has the size 3×5×6 but .*image.nii.gz has 4×5×6: resample"):
        check_mask(write(tmp_path, "small.nii.gz", inside[1:]), image, JSON)
    with pytest.raises(XModalError, match="other.nii.gz has the spacing"):
        check_mask(write(tmp_path, "other.nii.gz", inside, (1.0, 1.0, 2.5)), image, JSON)
    with pytest.raises(XModalError, match="none.nii.gz is missing: every case needs one in the folder of --mask"):
        check_mask(tmp_path / "none.nii.gz", image, JSON)


def test_ppb_are_told_from_ppm_and_hertz_from_ppm():
    phantom = susceptibility_phantom(np.random.default_rng(0), (24, 32, 32), (6, 5, 5))
    inside = phantom.mask > 0
    check_susceptibility(phantom.susceptibility, inside, "anna")
    with pytest.raises(XModalError, match="susceptibilities of anna reach .* looks like ppb, not ppm: divide"):
        check_susceptibility(1000 * phantom.susceptibility, inside, "anna")
    hertz = one_ppm_in("Hz", 7.0)
    check_field(phantom.field, inside, "anna", 1.0, "ppm")
    check_field(phantom.field * hertz, inside, "anna", hertz, "Hz")
    with pytest.raises(XModalError, match="the field of anna, read as ppm, reaches .* say its unit with --field_unit"):
        check_field(phantom.field * hertz, inside, "anna", 1.0, "ppm")
    spike = phantom.susceptibility.copy()
    spike[tuple(np.argwhere(inside)[0])] = 1e4  # a single voxel is no unit
    check_susceptibility(spike, inside, "anna")


def test_the_first_fault_counts_the_others():
    def fails(name):
        raise XModalError(f"{name} is broken.")

    assert first_fault([lambda: None]) is None
    assert first_fault([lambda: None, lambda: fails("a")]) == "a is broken."
    assert first_fault([lambda: fails("a"), lambda: fails("b")]) == "a is broken. (1 other cases have faults, too.)"


@pytest.mark.parametrize(
    "factor, sentence",
    [
        (16.0, "read as ppm, is 1.* times the one that its susceptibility map makes: say its unit with --field_unit"),
        (0.02, "read as ppm, is 0.0198 times the one"),
        (-1.0, "with the opposite sign"),
    ],
)
def test_a_field_is_compared_with_that_of_its_map(factor, sentence, capsys):
    phantom = susceptibility_phantom(np.random.default_rng(0), (24, 32, 32), (6, 5, 5))
    geometry = FieldGeometry((6.0, 5.0, 5.0), tuple(field_direction(phantom.direction_cosines)))
    compared = phantom.susceptibility, phantom.mask > 0, geometry, "anna", "ppm"
    check_field_of_map(phantom.field, *compared)
    assert capsys.readouterr().err == ""
    with pytest.raises(XModalError, match=sentence):
        check_field_of_map(factor * phantom.field, *compared)


def test_a_field_of_another_head_is_told(capsys):
    phantom = susceptibility_phantom(np.random.default_rng(0), (24, 32, 32), (6, 5, 5))
    geometry = FieldGeometry((6.0, 5.0, 5.0), tuple(field_direction(phantom.direction_cosines)))
    field = np.random.default_rng(1).normal(0, 0.01, phantom.field.shape)
    check_field_of_map(field, phantom.susceptibility, phantom.mask > 0, geometry, "anna", "ppm")
    assert "little in common" in capsys.readouterr().err
    check_field_of_map(0 * field, phantom.susceptibility, phantom.mask > 0, geometry, "anna", "ppm")


def test_a_field_that_goes_on_as_noise_outside_of_its_mask_is_refused():
    rng = np.random.default_rng(0)
    mask = np.zeros((10, 20, 20), bool)
    mask[2:8, 5:15, 5:15] = True
    field = np.where(mask, rng.normal(0, 0.02, mask.shape), 0)
    check_ends_with_mask(field, mask, "f", "m")
    check_ends_with_mask(rng.normal(0, 0.02, mask.shape), mask, "f", "m")  # an eroded mask
    border = field.copy()
    border[2, 4, 5:15] = 1.0  # a few voxels around it
    check_ends_with_mask(border, mask, "f", "m")
    noisy = np.where(mask, field, rng.normal(0, 0.08, mask.shape))
    with pytest.raises(XModalError, match=r"f has a standard deviation of 0\.0791 outside of m and of 0\.020\d inside"):
        check_ends_with_mask(noisy, mask, "f", "m")
    with pytest.raises(XModalError, match="outside of m and of 0 inside"):
        check_ends_with_mask(np.where(mask, 0, noisy), mask, "f", "m")
