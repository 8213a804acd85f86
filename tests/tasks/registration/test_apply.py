"""Volumes through transforms: from the moving image's space into the fixed one's, and back."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.apply import main
from nnunet_xmodal.geometry.grid_chain import euler_transform

SHIFT = (4.0, -2.0, 6.0)
"""mm from a fixed point to the moving one: 4, −2 and 3 voxels."""


def image(offset=(0.0, 0.0, 0.0), kind=sitk.sitkUInt8):
    made = sitk.Image([16, 14, 12], kind)
    made.SetSpacing((1.0, 1.0, 2.0))
    made.SetOrigin(offset)
    return made


@pytest.fixture
def folders(tmp_path):
    for name in ("fixed", "moving", "transforms", "volumes"):
        (tmp_path / name).mkdir()
    for case in ("anna", "anna_2"):
        sitk.WriteImage(image(), str(tmp_path / "fixed" / f"{case}_0000.nii.gz"))
        sitk.WriteImage(image(SHIFT), str(tmp_path / "moving" / f"{case}.mha"))
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    sitk.WriteTransform(euler_transform(matrix, (1.0, 2.0, 3.0)), str(tmp_path / "transforms" / "anna.tfm"))
    sitk.WriteTransform(euler_transform(np.eye(4), (0.0, 0.0, 0.0)), str(tmp_path / "transforms" / "anna_2.tfm"))
    return tmp_path


def run(folders, *flags, onto="fixed", volumes="volumes"):
    main([*map(str, ("-i", folders / volumes, "-t", folders / "transforms", "--onto", folders / onto)),
          "-o", str(folders / "out"), *flags])  # fmt: skip


def test_labels_of_the_moving_image_on_the_fixed_ones_grid(folders):
    label = image(SHIFT)
    label[5, 6, 7] = 3
    sitk.WriteImage(label, str(folders / "volumes" / "anna_targets.nrrd"))
    run(folders, "--nearest")
    found = sitk.ReadImage(str(folders / "out" / "anna_targets.nii.gz"))
    array = sitk.GetArrayFromImage(found)
    assert found.GetPixelID() == sitk.sitkUInt8 and np.allclose(found.GetOrigin(), 0)
    assert np.argwhere(array).tolist() == [[7, 6, 5]] and array.max() == 3


def test_targets_of_the_fixed_image_on_the_moving_ones_grid(folders):
    label = image()
    label[9, 6, 4] = 2
    sitk.WriteImage(label, str(folders / "volumes" / "anna.nii.gz"))
    run(folders, "--nearest", "--inverse", onto="moving")
    found = sitk.ReadImage(str(folders / "out" / "anna.nii.gz"))
    assert np.allclose(found.GetOrigin(), SHIFT)
    array = sitk.GetArrayFromImage(found)
    assert np.argwhere(array).tolist() == [[4, 6, 9]] and array.max() == 2


def test_the_longest_case_that_a_name_begins_with_is_its_case(folders):
    here = image(kind=sitk.sitkFloat32)
    here[5, 6, 7] = 1.5
    sitk.WriteImage(here, str(folders / "volumes" / "anna_2_dose.nii.gz"))
    run(folders)
    found = sitk.ReadImage(str(folders / "out" / "anna_2_dose.nii.gz"))
    assert found[5, 6, 7] == 1.5  # by the transform of anna_2, which is none


@pytest.mark.parametrize(
    "spoil, sentence",
    [
        (lambda f: None, "volumes holds no volumes, which end in .nii.gz"),
        (lambda f: sitk.WriteImage(image(), str(f / "volumes" / "eve.nii.gz")), "eve.nii.gz has no transform"),
        (lambda f: (f / "volumes" / "anna.nii.gz").write_bytes(b"no image"), "anna.nii.gz cannot be read"),
        (lambda f: [sitk.WriteImage(image(), str(f / "volumes" / "anna.nii.gz")),
                    (f / "fixed" / "anna_0000.nii.gz").unlink()], "anna_0000.nii.gz is missing: --onto holds"),
        (lambda f: [sitk.WriteImage(image(), str(f / "volumes" / "anna.nii.gz")),
                    (f / "transforms" / "anna.tfm").write_text("1 2 3")], "anna.tfm is no transform of volumes"),
        (lambda f: [sitk.WriteImage(image(), str(f / "volumes" / "anna.nii.gz")),
                    sitk.WriteTransform(sitk.Euler2DTransform(), str(f / "transforms" / "anna.tfm"))],
         "anna.tfm is no transform of volumes"),
        (lambda f: sitk.WriteImage(image(), str(f / "volumes" / "anna.nii.gz")) or
         (f / "volumes" / "anna.nii.gz").rename(f / "volumes" / "anna.NII.GZ"), "anna.NII.GZ ends in capitals"),
    ],
)  # fmt: skip
def test_what_cannot_be_moved_is_said_before_anything_is_written(folders, capsys, spoil, sentence):
    spoil(folders)
    with pytest.raises(SystemExit, match="2"):
        run(folders)
    assert sentence in capsys.readouterr().err
    assert not (folders / "out").exists()


def test_two_volumes_that_would_become_one_file_are_named(folders, capsys):
    for ending in (".nii.gz", ".nrrd"):
        sitk.WriteImage(image(), str(folders / "volumes" / f"anna_targets{ending}"))
    with pytest.raises(SystemExit, match="2"):
        run(folders)
    assert "would both become anna_targets.nii.gz" in capsys.readouterr().err
    assert not (folders / "out").exists()


@pytest.mark.parametrize("folder, flag", [("volumes", "-i"), ("transforms", "-t"), ("fixed", "--onto")])
def test_nothing_is_written_among_what_is_read(folders, capsys, folder, flag):
    sitk.WriteImage(image(), str(folders / "volumes" / "anna.nii.gz"))
    words = (
        "-i",
        folders / "volumes",
        "-t",
        folders / "transforms",
        "--onto",
        folders / "fixed",
        "-o",
        folders / folder,
    )
    with pytest.raises(SystemExit, match="2"):
        main([str(word) for word in words])
    assert f"is the folder that {flag} reads" in capsys.readouterr().err
