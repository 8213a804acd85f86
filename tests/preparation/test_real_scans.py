"""Scans of a real scanner, which are no part of this project."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.prepare import main
from nnunet_xmodal.geometry.resampling import same_grid


@pytest.mark.slow
def test_native_prostates_become_the_dataset_that_others_made_of_them(raw):
    """One command, and images equal to those of Dataset504_Prostate but for their rounding to integers."""
    folder = os.environ.get("NNUNET_XMODAL_REAL_DATA")
    if not folder:
        pytest.skip("NNUNET_XMODAL_REAL_DATA names no folder with native_prostate and Dataset504_Prostate")
    native, reference = Path(folder) / "native_prostate", Path(folder) / "Dataset504_Prostate"
    main(
        ["-i", str(native), "-o", "Dataset510_Native", "--channels", "T2W={case}_*_t2w.mha", "ADC={case}_*_adc.mha"]
        + ["--label", f"{reference}/labelsTr/{{case}}.nii.gz", "-np", "1"]
        + ["--labels", "peripheral_zone=1", "transition_zone=2", "lesion=3"]
    )
    for file in sorted((raw / "Dataset510_Native").glob("*Tr/*.nii.gz")):
        made, theirs = (sitk.ReadImage(str(f)) for f in (file, reference / file.parent.name / file.name))
        assert same_grid(made, theirs)
        difference = sitk.GetArrayFromImage(made).astype(float) - sitk.GetArrayFromImage(theirs)
        assert np.abs(difference).max() <= 1.0, file
