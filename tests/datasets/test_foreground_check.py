"""At least one label map shows something."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.foreground_check import check_some_foreground
from nnunet_xmodal.errors import XModalError

LABELS = {"background": 0, "lesion": 1, "ignore": 2}


@pytest.fixture
def cases(tmp_path):
    def make(*values):
        made = [Case("unlabelled", [])]
        for number, value in enumerate(values):
            array = np.zeros((3, 4, 5), np.uint8)
            array[1, 1, 1] = value
            file = tmp_path / f"c_{number}.nii.gz"
            sitk.WriteImage(sitk.GetImageFromArray(array), str(file))
            made.append(Case(f"c_{number}", [], file))
        return made

    return make


def test_one_is_enough(cases):
    check_some_foreground(cases(0, 0, 1), {"labels": LABELS, "file_ending": ".nii.gz"})


@pytest.mark.parametrize("values", [(0, 0), (0, 2)])
def test_none_is_said(cases, values):
    with pytest.raises(XModalError, match=r"none of the 2 label maps, for example .*c_0\.nii\.gz, holds anything but"):
        check_some_foreground(cases(*values), {"labels": LABELS, "file_ending": ".nii.gz"})
