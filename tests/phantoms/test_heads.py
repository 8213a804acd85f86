"""Phantoms of susceptibility: reproducible, in ppm, and with the field that their dipoles make."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import label

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.reconstruction import reconstruction_quality
from nnunet_xmodal.phantoms.heads import (
    NOISE,
    TILT,
    susceptibility_phantom,
    write_susceptibility_dataset,
)
from nnunet_xmodal.physics import dipole
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.inversion import truncated_division

GRID = {"shape": (24, 36, 32), "spacing": (5.0, 4.5, 4.5)}
SMALL = {"shape": (16, 20, 18), "spacing": (7.0, 8.0, 8.0)}


@pytest.fixture(scope="module")
def phantoms():
    return [susceptibility_phantom(np.random.default_rng(seed), **GRID) for seed in range(4)]


def as_tensors(phantom):
    return (torch.from_numpy(volume)[None, None] for volume in (phantom.field, phantom.susceptibility, phantom.mask))


def test_shapes_types_and_one_brain_within_the_grid(phantoms):
    for phantom in phantoms:
        for volume, dtype in zip(phantom[:3], (np.float32, np.float32, np.uint8)):
            assert volume.shape == GRID["shape"] and volume.dtype == dtype and np.isfinite(volume).all()
        brain = phantom.mask == 1
        assert label(brain)[1] == 1 and brain[1:-1, 1:-1, 1:-1].sum() == brain.sum()
        assert 0.2 < brain.mean() < 0.5
        assert not phantom.field[~brain].any() and not phantom.susceptibility[~brain].any()


def test_susceptibilities_are_those_of_tissue_in_ppm_around_their_mean(phantoms):
    for phantom in phantoms:
        inside = phantom.susceptibility[phantom.mask == 1]
        assert abs(inside.mean()) < 0.003 and 0.02 < inside.std() < 0.05
        assert -0.1 < inside.min() and 0.06 < inside.max() < 0.3
        assert phantom.field[phantom.mask == 1].std() < inside.std()


def test_the_head_is_tilted_and_differs_from_case_to_case(phantoms):
    for phantom in phantoms:
        cosines = phantom.direction_cosines
        np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-12)
        assert np.linalg.det(cosines) == pytest.approx(1)
        assert 0 < np.rad2deg(np.arccos(field_direction(cosines)[0])) < 2 * TILT
    assert not np.array_equal(phantoms[0].mask, phantoms[1].mask)


def test_the_field_is_the_forward_models_but_for_the_finer_grid_and_noise(phantoms):
    for phantom in phantoms:
        field, susceptibility, mask = as_tensors(phantom)
        along = field_direction(phantom.direction_cosines)
        modelled = dipole.forward(susceptibility, GRID["spacing"], along)
        difference = (modelled - field)[mask == 1]
        assert NOISE[0] * 0.9 < difference.std() < 0.6 * field[mask == 1].std()
        otherwise = dipole.forward(susceptibility, GRID["spacing"], (0.0, 1.0, 0.0))
        assert difference.std() < 0.5 * (otherwise - field)[mask == 1].std()


def test_noise_is_within_its_range(phantoms, monkeypatch):
    monkeypatch.setattr("nnunet_xmodal.phantoms.heads.NOISE", (0.0, 0.0))
    for seed, phantom in enumerate(phantoms):
        clean = susceptibility_phantom(np.random.default_rng(seed), **GRID)
        np.testing.assert_array_equal(clean.susceptibility, phantom.susceptibility)
        noise = (phantom.field - clean.field)[phantom.mask == 1]
        assert 0.95 * NOISE[0] < noise.std() < 1.05 * NOISE[1] and abs(noise.mean()) < 0.1 * noise.std()


def test_truncated_division_finds_some_of_the_map(phantoms):
    for phantom in phantoms:
        field, _, mask = as_tensors(phantom)
        along = field_direction(phantom.direction_cosines)
        found = truncated_division(field, mask, GRID["spacing"], along, threshold=0.2)[0, 0].numpy()
        quality = reconstruction_quality(found, phantom.susceptibility, phantom.mask == 1)
        assert 15 < quality["RMSE_percent"] < 75


def test_a_grid_that_is_too_small_is_a_sentence():
    with pytest.raises(XModalError, match=r"needs 16 voxels along every axis, and \[8, 48, 48\] are fewer"):
        susceptibility_phantom(np.random.default_rng(0), (8, 48, 48), (2.0, 2.0, 2.0))


def test_dataset_in_raw_format_with_the_target_as_last_channel_in_training_alone(tmp_path):
    folder = tmp_path / "Dataset952_SusceptibilityPhantom"
    write_susceptibility_dataset(folder, n_train=2, n_test=1, seed=3, **SMALL)
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["channel_names"] == {"0": "field", "1": "susceptibility"}
    assert dataset["labels"] == {"background": 0, "brain": 1} and dataset["numTraining"] == 2
    names = {str(path.relative_to(folder)) for path in folder.rglob("*.nii.gz")}
    assert names == {
        *(f"imagesTr/head_tr{case:03d}_{channel:04d}.nii.gz" for case in range(2) for channel in range(2)),
        *(f"labelsTr/head_tr{case:03d}.nii.gz" for case in range(2)),
        *(f"{kind}.nii.gz" for kind in ("imagesTs/head_ts000_0000", "targetsTs/head_ts000", "labelsTs/head_ts000")),
    }
    assert not list(folder.rglob(".tmp*"))


def test_files_tell_the_fields_direction(tmp_path):
    write_susceptibility_dataset(tmp_path, n_train=1, n_test=0, seed=3, **SMALL)
    phantom = susceptibility_phantom(np.random.default_rng((3, 0, 0)), **SMALL)
    for name, volume in zip(("images", "images", "labels"), phantom):
        suffix = "" if name == "labels" else "_0000" if volume is phantom.field else "_0001"
        image = sitk.ReadImage(str(tmp_path / f"{name}Tr/head_tr000{suffix}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), volume)
        assert image.GetSpacing() == pytest.approx(SMALL["spacing"][::-1])
        expected = field_direction(phantom.direction_cosines)
        np.testing.assert_allclose(field_direction(image.GetDirection()), expected, atol=1e-6)
