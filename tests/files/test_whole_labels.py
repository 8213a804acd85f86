"""Labels that are whole numbers but for a scaling, and those that nnU-Net would cut to another one."""

import nibabel
import numpy as np
import pytest

from nnunet_xmodal.comparison.case_table import read_label_map
from nnunet_xmodal.datasets.cases import training_cases
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.scan import read_volume_file
from nnunet_xmodal.files.whole_labels import cut_labels, rounded_labels
from nnunet_xmodal.preparation.label_maps import mapped

SLOPE = 112


def scaled(nifti, file, times=255):
    """255 · float32(1/255) is 1.00000006."""
    nibabel.save(nibabel.Nifti1Image(nifti.label() * np.uint8(times), nifti.affine), file)
    nifti.packed(file, SLOPE, "<ff", 1 / times, 0.0)
    assert np.asanyarray(nibabel.load(file).dataobj).max() != 1


def test_a_scaled_label_is_the_label_for_everyone(raw, nifti):
    folder, description = raw(".nii", overwrite_image_reader_writer="SimpleITKIO")
    for case in "ab":
        scaled(nifti, folder / f"labelsTr/{case}.nii")
    file = folder / "labelsTr/a.nii"
    check_cases(training_cases(folder, description), description, progress=False)
    assert np.array_equal(read_label_map(file, description)[0], nifti.label().T)
    labels = mapped(read_volume_file(file).image, file, {}, description["labels"])
    assert labels.GetPixelIDTypeAsString() == "8-bit unsigned integer"


@pytest.mark.parametrize(
    "factor, message",
    [(0.9995, r"0.99949\d+, of which nnU-Net drops"), (1.01, r"1.00999\d+, which")],
    ids=["nnU-Net would cut it", "unknown"],
)
def test_a_label_that_is_not_whole_is_refused_with_all_digits(raw, nifti, factor, message):
    folder, description = raw()
    label = nifti.label() * np.float32(factor)
    nibabel.save(nibabel.Nifti1Image(label, nifti.affine), folder / "labelsTr/b.nii.gz")
    with pytest.raises(XModalError, match=f"b.nii.gz holds the label {message}"):
        check_cases(training_cases(folder, description), description, progress=False)


def test_rounding():
    values = np.array([0, 1.00000006, 2.9999998, 0.4, np.inf, -0.0005])
    assert np.array_equal(rounded_labels(values), [0, 1, 3, 0.4, np.inf, 0])
    assert np.array_equal(cut_labels(values[:3]), [2.9999998])
    integers = np.arange(5)
    assert rounded_labels(integers) is integers and not len(cut_labels(integers))
