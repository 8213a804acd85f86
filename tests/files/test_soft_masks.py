"""Masks that were resampled linearly count from 0.5 on, wherever one is read."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.organ_mask import in_organ, organ_on_grid
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.soft_masks import inside_mask
from nnunet_xmodal.tasks.reconstruction.checks import check_mask, check_not_empty


def test_inside_is_from_a_half_on():
    assert inside_mask(np.array([0, 0.001, 0.49, 0.5, 0.999, 1, 255])).tolist() == [False] * 3 + [True] * 4
    assert inside_mask(np.array([-1, 0, 1, 2])).tolist() == [False, False, True, True]
    assert inside_mask(np.array([False, True])).tolist() == [False, True]


def test_an_organ_is_not_the_whole_image(tmp_path, nifti):
    soft = nifti.label() * np.float32(0.999) + np.float32(0.001)
    file = tmp_path / "mask.nii.gz"
    nibabel.save(nibabel.Nifti1Image(soft, nifti.affine), file)
    grid = sitk.GetImageFromArray(nifti.label().T)
    grid.SetSpacing((1, 1, 2))
    assert np.array_equal(sitk.GetArrayFromImage(organ_on_grid(file, grid)).T, nifti.label())
    values = in_organ(nifti.label() * np.float64(1.00000006), file, [1])
    assert np.array_equal(values, nifti.label())


def test_a_mask_below_a_half_everywhere_is_empty(tmp_path, nifti):
    file, image = tmp_path / "mask.nii.gz", tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(nifti.label() * np.float32(0.3), nifti.affine), file)
    nibabel.save(nibabel.Nifti1Image(nifti.voxels(), nifti.affine), image)
    with pytest.raises(XModalError, match=r"mask.nii.gz is empty \(its largest value is 0.3, and 0.5 is inside\)"):
        check_mask(file, image, {"file_ending": ".nii.gz"})
    with pytest.raises(XModalError, match="is empty: draw the brain"):
        check_not_empty(nifti.label() * 0, file)


@pytest.mark.parametrize("numbers", ["RGB", "RGBA"])
def test_a_coloured_mask_is_a_sentence(tmp_path, nifti, numbers):
    file, image = tmp_path / "mask.nii.gz", tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(nifti.colours(numbers), nifti.affine), file)
    nibabel.save(nibabel.Nifti1Image(nifti.voxels(), nifti.affine), image)
    with pytest.raises(XModalError, match="mask.nii.gz holds . numbers per voxel"):
        check_mask(file, image, {"file_ending": ".nii.gz"})
