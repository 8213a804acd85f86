"""A model that makes images, in memory, is the command's."""

import numpy as np
import pytest
import SimpleITK as sitk
from organ_scans import image_of, noise, write

from nnunet_xmodal.commands import predict

TRAINER, NAMES = "nnUNetTrainerCMFTPaired", ("T1", "T1c", "T2")


@pytest.fixture
def folder(write_untrained_model, make_plans, make_dataset_json):
    """A model with random weights that makes T1 and T2 of T1c, and T1c of both."""
    plans, dataset_json = make_plans(2, channels=3, streams=[[0, 2], [1]]), make_dataset_json(channels=3)
    return write_untrained_model(TRAINER, plans, dataset_json)


@pytest.mark.parametrize("given", [("T1c",), ("T1", "T2")], ids="+".join)
def test_images_in_memory(folder, tmp_path, from_folder_and_zip, given):
    images = {}
    for name in given:
        number = NAMES.index(name)
        images[name] = sitk.ReadImage(
            str(write(image_of(noise(number)[:2, :18, :18]), tmp_path, "in", f"anna_{number:04d}.nii.gz"))
        )
    for output, flags in (("plain", []), ("mapped", ["--reference_intensities", 300, 40])):
        words = ["-m", folder, "-i", tmp_path / "in", "-o", tmp_path / output, "-device", "cpu", *flags]
        predict.main([str(word) for word in (*words, "--disable_tta", "-step_size", 1, "-npp", 0, "-nps", 0)])
    for model in from_folder_and_zip(folder):
        assert model.channels == list(NAMES)
        for output, options in (("plain", {}), ("mapped", {"reference_intensities": [300, 40]}), ("plain", {})):
            made = model(images, **options)
            assert set(made) == set(NAMES) - set(given)
            for name, image in made.items():
                file = tmp_path / output / f"anna_{NAMES.index(name):04d}.nii.gz"
                expected = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
                np.testing.assert_array_equal(sitk.GetArrayFromImage(image), expected)
                assert np.ptp(expected) > 0 and image.GetOrigin() == images[given[0]].GetOrigin()
