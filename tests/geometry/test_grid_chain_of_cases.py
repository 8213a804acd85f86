"""The chain beside what nnU-Net's preprocessor does to a case, and on real images where there are any."""

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from grid_chains import DIRECTIONS, chain_of, image_of, random_transform
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import center_of_mass, label

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import GridChain, physical_matrix
from nnunet_xmodal.geometry.surface import surface_points
from nnunet_xmodal.geometry.warp import warp


def preprocessed(make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, points, direction):
    """A case with a blob at every physical point, read and preprocessed by nnU-Net."""
    shape = (26, 40, 44)  # z y x
    image = sitk.Image(shape[::-1], sitk.sitkFloat32)
    image.SetSpacing((0.8, 1.1, 2.3))
    image.SetOrigin((-310.0, 45.5, 700.25))
    image.SetDirection(DIRECTIONS[direction].flatten())
    array = np.zeros(shape, np.float32)
    array[4:23, 5:38, 3:40] = 1e-3  # what nnU-Net crops to
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    for point in points:
        offset = (indices - np.array(image.TransformPhysicalPointToContinuousIndex(point))[::-1]) * [2.3, 1.1, 0.8]
        array += np.where((indices >= [4, 5, 3]).all(-1) & (indices < [23, 38, 40]).all(-1), 1, 0) * np.exp(
            -(offset**2).sum(-1) / (2 * 2.0**2)
        )
    plans = make_plans(3, channels=2)
    plans["transpose_forward"] = list(transpose_forward)
    plans["transpose_backward"] = np.argsort(transpose_forward).tolist()
    configuration = plans["configurations"]["3d_fullres"]
    configuration |= {"spacing": list(spacing), "normalization_schemes": ["NoNormalization"] * 2}
    for what in ("data", "seg", "probabilities"):
        configuration[f"resampling_fn_{what}_kwargs"] |= {"order": 3, "force_separate_z": False}
    files = []
    for channel in range(2):
        files.append(str(tmp_path / f"case_{channel:04d}.nii.gz"))
        filled = sitk.GetImageFromArray(array)
        filled.CopyInformation(image)
        sitk.WriteImage(filled, files[-1])
    data, properties = SimpleITKIO().read_images(files)
    manager = PlansManager(plans)
    data, _, properties = DefaultPreprocessor(verbose=False).run_case_npy(
        data, None, properties, manager, manager.get_configuration("3d_fullres"), make_dataset_json(channels=2)
    )
    return image, data, properties


@pytest.mark.parametrize(
    "spacing, transpose_forward, direction",
    [
        ((1.37, 1.21, 1.13), (0, 1, 2), "oblique"),
        ((1.5, 1.3, 1.2), (0, 1, 2), "LAS"),
        ((1.5, 1.7, 1.2), (1, 0, 2), "oblique"),
        ((0.9, 1.9, 1.2), (2, 0, 1), "left-handed"),
    ],
)
def test_nnunets_preprocessing_puts_blobs_where_the_chain_predicts(
    make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, direction
):
    reference = sitk.Image([44, 40, 26], sitk.sitkUInt8)
    reference.SetSpacing((0.8, 1.1, 2.3))
    reference.SetOrigin((-310.0, 45.5, 700.25))
    reference.SetDirection(DIRECTIONS[direction].flatten())
    native = [(12.3, 14.6, 9.2), (31.1, 28.4, 17.7), (13.0, 29.0, 13.5)]  # x y z, apart from each other and the border
    points = [reference.TransformContinuousIndexToPhysicalPoint(index) for index in native]
    _, data, properties = preprocessed(
        make_plans, make_dataset_json, tmp_path, spacing, transpose_forward, points, direction
    )
    chain = GridChain.from_properties(properties, transpose_forward, data.shape[1:], (10, 20, 30))
    chain = chain.around(chain.to_preprocessed(np.array(points[0])))
    assert any(low > 0 for low in chain.first)
    assert chain.effective_spacing != pytest.approx(spacing, abs=1e-3)  # sizes are rounded
    assert chain.effective_spacing == pytest.approx(spacing, abs=0.05)

    blobs, count = label(data[0] > 0.3)
    assert count == len(points)
    found = np.array([center_of_mass(np.where(blobs == blob, data[0] - 0.3, 0)) for blob in range(1, count + 1)])
    predicted = chain.to_preprocessed(np.array(points))
    for place in predicted:
        assert np.abs(found - place).max(1).min() < 0.05  # voxels

    brightest = tuple(np.round(predicted[0] - chain.start).astype(int))  # the grid was laid around the first one
    assert chain.cut(data)[(0, *brightest)] > 0.8


NATIVE_PAIRS = [("0000_07-07-2011", "adc"), ("0001_07-08-2011", "adc")]


@pytest.fixture
def real_data():
    """Folders `mr_us_pair` and `native_prostate` of somebody's own, which are no part of this project."""
    folder = os.environ.get("NNUNET_XMODAL_REAL_DATA")
    if not folder:
        pytest.skip("NNUNET_XMODAL_REAL_DATA names no folder with real pairs")
    return Path(folder)


@pytest.mark.parametrize("patient, kind", NATIVE_PAIRS)
def test_real_images_of_one_frame_of_reference_lie_on_each_other(real_data, patient, kind):
    """A moving image of another grid, brought onto the grid by the identity and by what the chain writes for it."""
    fixed, moving = (
        sitk.ReadImage(str(real_data / "native_prostate" / f"ProstateX-{patient}_{name}.mha"), sitk.sitkFloat32)
        for name in ("t2w", kind)
    )
    array = sitk.GetArrayFromImage(fixed)
    properties = {
        "sitk_stuff": {key: getattr(fixed, f"Get{key.title()}")() for key in ("spacing", "origin", "direction")},
        "bbox_used_for_cropping": [[0, side] for side in array.shape],
        "shape_after_cropping_and_before_resampling": array.shape,
    }
    chain = GridChain.from_properties(properties, (0, 1, 2), array.shape, (16, 96, 96))
    grid = image_of(chain, chain.cut(array[None])[0])
    matrix = random_transform(5, 10)
    written = chain.physical_transform(matrix)
    onto_fixed = sitk.Resample(moving, grid, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkLinear, 0.0)
    ours = warp(
        torch.from_numpy(sitk.GetArrayFromImage(onto_fixed))[None, None].double(),
        matrix,
        torch.tensor(chain.effective_spacing),
    )[0, 0]
    theirs = torch.from_numpy(sitk.GetArrayFromImage(sitk.Resample(moving, grid, written, sitk.sitkLinear, 0.0)))
    inner = (slice(4, -4), slice(20, -20), slice(20, -20))
    assert np.corrcoef(ours[inner].flatten(), theirs[inner].flatten())[0, 1] > 0.97
    assert len(surface_points(ours > ours.median(), chain.effective_spacing)) > 0


def test_a_real_ground_truth_is_rigid_by_our_convention_and_warps_a_real_pair(real_data):
    """It is known to five digits; six numbers give it back, and a warp there and back an image."""
    folder = real_data / "mr_us_pair"
    truth = torch.from_numpy(np.load(folder / "gt.npy"))
    again = rigid_transform.matrix(rigid_transform.parameters(truth))
    torch.testing.assert_close(again, truth, atol=1e-5, rtol=0)
    np.testing.assert_allclose(physical_matrix(truth), truth)
    chain = chain_of(size=(32, 96, 96))
    np.testing.assert_allclose(chain.grid_matrix(chain.physical_transform(truth)), truth, atol=1e-4)
    moving = torch.from_numpy(np.load(folder / "US.npy"))[None, None].double()
    turn, spacing = truth.clone(), torch.ones(3).double()
    turn[:3, 3] = 0  # its shift is between two scanners' coordinates and leads out of the grid
    back = warp(warp(moving, turn, spacing), rigid_transform.inverse(turn), spacing)
    inner = (..., slice(12, -12), slice(24, -24), slice(24, -24))
    assert np.corrcoef(back[inner].flatten(), moving[inner].flatten())[0, 1] > 0.97
