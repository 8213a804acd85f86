"""A model of susceptibility in memory is the command's."""

import numpy as np
import pytest
import SimpleITK as sitk
from field_predictions import SPACING, read

from nnunet_xmodal.commands import predict

TRAINER = "nnUNetTrainerQSMDirect"


@pytest.fixture
def folder(write_untrained_model, make_plans):
    """A model with random weights that maps fields in Hz at 7 T."""
    plans = make_plans(3, channels=2, patch_size=(8, 8, 8))
    plans["xmodal"] = {"target_channel": 1, "outputs": 1, "field": {"unit": "Hz", "B0": 7.0}}
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"normalization_schemes": ["NoNormalization"] * 2, "spacing": list(SPACING[::-1])}
    plans["foreground_intensity_properties_per_channel"]["0"]["std"] = 6.0
    dataset_json = {
        "channel_names": {"0": "field", "1": "susceptibility"},
        "labels": {"background": 0, "brain": 1},
        "numTraining": 5,
        "file_ending": ".nii.gz",
    }
    return write_untrained_model(TRAINER, plans, dataset_json)


def test_a_map_in_memory(folder, write, field, tmp_path, from_folder_and_zip):
    write("anna_0000.nii.gz", 300 * field)
    image = sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz"))
    mask = sitk.Cast(image > 0, sitk.sitkUInt8)
    write("anna.nii.gz", sitk.GetArrayFromImage(mask), folder="masks")
    words = [
        "-m",
        folder,
        "-i",
        tmp_path / "in",
        "-device",
        "cpu",
        "-npp",
        0,
        "-nps",
        0,
        "--disable_tta",
        "-step_size",
        1,
    ]
    expected = {}
    for name, flags in (("whole", []), ("masked", ["--mask", tmp_path / "masks"])):
        predict.main([str(word) for word in (*words, "-o", tmp_path / name, *flags)])
        expected[name] = read(tmp_path / name / "anna.nii.gz")
    assert np.ptp(expected["whole"]) > 0 and not np.array_equal(*expected.values())
    for model in from_folder_and_zip(folder):
        assert model.channels == ["field"]
        for name, options in (("whole", {}), ("masked", {"mask": mask}), ("whole", {})):  # nothing of a call stays
            made = model({"field": image}, **options)
            np.testing.assert_array_equal(sitk.GetArrayFromImage(made), expected[name])
            assert made.GetOrigin() == image.GetOrigin() and made.GetDirection() == image.GetDirection()
