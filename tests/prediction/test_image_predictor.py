import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.image_predictor import ImagePredictor, write_images
from nnunet_xmodal.prediction.native_geometry import images_in_native_geometry

SPACING, ORIGIN, DIRECTION = (0.7, 0.7, 3.0), (-10.0, 20.0, 5.0), (0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)


class Scaled(nn.Module):
    """Every voxel times a weight, which is what folds differ in."""

    def __init__(self, weight=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, x):
        return self.weight * x


@pytest.fixture
def make_predictor(make_plans, make_dataset_json):
    def make(network, patch_size=(8, 8), axes=None, plans=None, **options) -> ImagePredictor:
        plans = plans or make_plans(len(patch_size), patch_size=patch_size)
        (name, configuration), *_ = plans["configurations"].items()
        configuration["normalization_schemes"] = ["NoNormalization"] * 2
        manager = PlansManager(plans)
        predictor = ImagePredictor(device=torch.device("cpu"), allow_tqdm=False, **options)
        parameters = [network.state_dict()]
        predictor.manual_initialization(
            network, manager, manager.get_configuration(name), parameters, make_dataset_json(), "nnUNetTrainer", axes
        )
        return predictor

    return make


def many_sizes(patch_size):
    """Smaller than the patch, as large, larger, not divisible."""
    sizes = {2: [(1, 5, 6), (2, 8, 8), (3, 16, 24), (2, 21, 7), (1, 13, 10)], 3: [(3, 5, 6), (8, 8, 8), (13, 9, 17)]}
    return sizes[len(patch_size)]


@pytest.mark.parametrize("patch_size", [(8, 8), (8, 8, 8)], ids=str)
@pytest.mark.parametrize("scale", [1.0, 1e5])
@pytest.mark.parametrize("step, gaussian", [(0.5, True), (0.3, True), (1.0, False)])
def test_an_identity_network_returns_its_input(make_predictor, patch_size, scale, step, gaussian):
    predictor = make_predictor(nn.Identity(), patch_size, tile_step_size=step, use_gaussian=gaussian)
    for size in many_sizes(patch_size):
        image = scale * torch.randn(2, *size)
        images = predictor.predict_logits_from_preprocessed_data(image.clone())
        assert images.dtype == torch.float32
        torch.testing.assert_close(images, image, rtol=1e-5, atol=0)


@pytest.mark.parametrize("patch_size, axes", [((8, 8), (0, 1)), ((8, 8), (1,)), ((8, 8, 8), (0, 1, 2)), ((8, 8), ())])
def test_an_identity_network_returns_its_input_whatever_the_mirroring(make_predictor, patch_size, axes):
    predictor = make_predictor(nn.Identity(), patch_size, axes)
    image = torch.randn(2, 9, 11, 8)
    images = predictor.predict_logits_from_preprocessed_data(image.clone())
    torch.testing.assert_close(images, image, rtol=1e-5, atol=0)


def test_nnunets_own_sums_are_why_this_predictor_exists(make_predictor):
    predictor, image = make_predictor(Scaled(), use_mirroring=False), 1e5 * torch.ones(3, 1, 8, 8)
    with pytest.raises(RuntimeError, match="Encountered inf"):
        nnUNetPredictor._internal_predict_sliding_window_return_logits(
            predictor, image, predictor._internal_get_sliding_window_slicers(image.shape[1:]), False
        )
    torch.testing.assert_close(predictor.predict_logits_from_preprocessed_data(image), image, rtol=1e-5, atol=0)


@pytest.mark.parametrize("axes, n", [((0, 1), 4), ((0, 1, 2), 8), ((), 1), (None, 1)])
def test_mirroring_is_the_mean_over_all_mirrored_copies(make_predictor, axes, n):
    convolution = nn.Conv3d(2, 1, 3, padding=1)
    predictor, x = make_predictor(convolution, (8, 8, 8), axes), torch.randn(1, 2, 8, 8, 8)
    copies = [x]
    for axis in axes or ():
        copies += [copy.flip(axis + 2) for copy in copies]
    assert len(copies) == n
    expected = [convolution(copy) for copy in copies]
    for step, axis in enumerate(axes or ()):  # undone in the order in which the copies were made
        expected = [image.flip(axis + 2) if index >> step & 1 else image for index, image in enumerate(expected)]
    with torch.inference_mode():
        torch.testing.assert_close(predictor._internal_maybe_mirror_and_predict(x), sum(expected) / n)
        predictor.use_mirroring = False
        torch.testing.assert_close(predictor._internal_maybe_mirror_and_predict(x), convolution(x))


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("patch_size", [(8, 8), (8, 8, 8)], ids=str)
def test_the_network_says_how_many_channels_there_are(make_predictor, channels, patch_size):
    network = (nn.Conv2d if len(patch_size) == 2 else nn.Conv3d)(2, channels, 1)
    image = torch.randn(2, 9, 11, 8)
    images = make_predictor(network, patch_size).predict_logits_from_preprocessed_data(image)
    weight = network.weight.flatten(1)
    expected = torch.einsum("oc,czyx->ozyx", weight, image) + network.bias.view(-1, 1, 1, 1)
    torch.testing.assert_close(images, expected.detach(), rtol=1e-5, atol=1e-5)


def test_folds_are_averaged(make_predictor):
    predictor, image = make_predictor(Scaled()), torch.randn(2, 1, 9, 9)
    predictor.list_of_parameters = [{"weight": torch.tensor(weight)} for weight in (1.0, 2.0, 6.0)]
    torch.testing.assert_close(predictor.predict_logits_from_preprocessed_data(image), 3 * image)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_named(make_predictor, value):
    with pytest.raises(XModalError, match="the network of nnUNetTrainer returned NaN or infinite voxels"):
        make_predictor(Scaled(value)).predict_logits_from_preprocessed_data(torch.ones(2, 1, 8, 8))


def test_images_have_no_probabilities(make_predictor):
    with pytest.raises(XModalError, match="there are no probabilities to save"):
        make_predictor(Scaled()).predict_from_data_iterator([], save_probabilities=True)


def case(size=(6, 9, 10)) -> tuple[np.ndarray, dict]:
    """An image `(C, z, y, x)` with empty slices around, and what nnU-Net's reader says about it."""
    image = np.zeros((2, *size), dtype=np.float32)
    inside = (slice(None), slice(1, -1), slice(2, -1), slice(1, -2))
    image[inside] = 1000 + np.random.default_rng(0).standard_normal(image[inside].shape)
    properties = {
        "spacing": SPACING[::-1],
        "sitk_stuff": {"spacing": SPACING, "origin": ORIGIN, "direction": DIRECTION},
    }
    return image, properties


@pytest.mark.parametrize("patch_size", [(8, 8), (8, 8, 8)], ids=str)
@pytest.mark.parametrize("axes", [[0, 1, 2], [1, 0, 2], [2, 0, 1]], ids=str)
def test_from_image_to_files_and_back(make_predictor, make_plans, tmp_path, patch_size, axes):
    """nnU-Net's preprocessing, an identity network and the way back: the image, in its geometry."""
    image, properties = case()
    plans = make_plans(len(patch_size), patch_size=patch_size)
    plans["transpose_forward"], plans["transpose_backward"] = axes, np.argsort(axes).tolist()
    (configuration,) = plans["configurations"].values()
    configuration["spacing"] = [SPACING[::-1][axis] for axis in axes][-len(patch_size) :]
    predictor = make_predictor(nn.Identity(), patch_size, (0, 1), plans)

    returned = predictor.predict_single_npy_array(image, properties)
    assert returned.dtype == np.float32
    np.testing.assert_allclose(returned, image, rtol=1e-5)

    predictor.channel_numbers = [2, 3]
    assert predictor.predict_single_npy_array(image, properties, output_file_truncated=str(tmp_path / "case")) is None
    files = [tmp_path / "case_0002.nii.gz", tmp_path / "case_0003.nii.gz"]
    assert sorted(tmp_path.iterdir()) == files
    for file, channel in zip(files, image):
        written = sitk.ReadImage(str(file))
        assert written.GetPixelID() == sitk.sitkFloat32
        np.testing.assert_allclose(sitk.GetArrayFromImage(written), channel, rtol=1e-5)
        for found, expected in (
            (written.GetSpacing(), SPACING),
            (written.GetOrigin(), ORIGIN),
            (written.GetDirection(), DIRECTION),
        ):
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_from_files_to_files(make_predictor, tmp_path):
    """`predict_from_files` with nnU-Net's own iterator replaced, which would start a process."""
    image, properties = case()
    (tmp_path / "in").mkdir()
    files = [str(file) for file in write_images(image, properties, tmp_path / "in" / "A")]
    plans_spacing = list(SPACING[::-1])[1:]
    predictor = make_predictor(Scaled(2.0))
    predictor.configuration_manager.configuration["spacing"] = plans_spacing

    def iterator(lists, segmentations, outputs, n_processes):
        preprocessor = predictor.configuration_manager.preprocessor_class(verbose=False)
        for images, output in zip(lists, outputs):
            managers = predictor.plans_manager, predictor.configuration_manager
            data, _, properties = preprocessor.run_case(images, None, *managers, predictor.dataset_json)
            as_file = tmp_path / "large.npy"
            np.save(as_file, data)
            yield {"data": str(as_file), "data_properties": properties, "ofile": output}

    predictor._internal_get_data_iterator_from_lists_of_filenames = iterator
    predictor.predict_from_files_sequential([files], [str(tmp_path / "out" / "A")])
    for number, channel in enumerate(image):
        written, _ = SimpleITKIO().read_images([str(tmp_path / "out" / f"A_{number:04d}.nii.gz")])
        np.testing.assert_allclose(written[0], 2 * channel, rtol=1e-5)
    assert not (tmp_path / "large.npy").exists()


def managers_of(plans):
    manager = PlansManager(plans)
    (name,) = plans["configurations"]
    return manager, manager.get_configuration(name)


def properties_of(shape, spacing, box) -> dict:
    """What nnU-Net notes of an image that it cropped to the box."""
    return {
        "spacing": spacing,
        "shape_before_cropping": shape,
        "bbox_used_for_cropping": box,
        "shape_after_cropping_and_before_resampling": tuple(end - begin for begin, end in box),
    }


def test_resampled_by_the_function_for_images_not_by_that_for_segmentations(make_plans):
    plans = make_plans(3)
    (configuration,) = plans["configurations"].values()
    configuration["resampling_fn_data_kwargs"] = {
        "is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None
    }  # fmt: skip
    manager, configuration = managers_of(plans)
    properties = properties_of((16, 16, 16), [0.5, 0.5, 0.5], box=[[0, 16], [0, 16], [0, 16]])
    images = np.random.default_rng(0).standard_normal((2, 8, 8, 8)).astype(np.float32)
    native = images_in_native_geometry(images, properties, manager, configuration)
    spacings = [1.0, 1.0, 1.0], [0.5, 0.5, 0.5]
    np.testing.assert_array_equal(native, configuration.resampling_fn_data(images, (16,) * 3, *spacings))
    linear = configuration.resampling_fn_probabilities(images, (16,) * 3, *spacings)
    assert native.dtype == np.float32 and np.abs(native - linear).max() > 0.1


def test_crop_and_transposition_are_undone_with_zeros_outside(make_plans):
    plans = make_plans(2)
    plans["transpose_forward"], plans["transpose_backward"] = [2, 0, 1], [1, 2, 0]
    manager, configuration = managers_of(plans)
    properties = properties_of((6, 4, 5), [1.0, 1.0, 3.0], box=[[1, 5], [0, 4], [2, 5]])
    images = 1 + np.random.default_rng(0).random((3, 4, 4, 3), dtype=np.float32)
    native = images_in_native_geometry(images, properties, manager, configuration)
    assert native.shape == (3, 4, 5, 6)
    cropped = native.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(cropped[:, 1:5, 0:4, 2:5], images)
    assert np.count_nonzero(native) == images.size


@pytest.mark.parametrize("ending, written", [(".nrrd", ".nrrd"), (".mha", ".mha"), (".png", ".nii.gz")])
def test_formats_that_hold_no_floats_give_way(tmp_path, ending, written):
    image, properties = case()
    files = write_images(image[:1] + 0.25, properties, tmp_path / "A", ending)
    assert files == [tmp_path / f"A_0000{written}"] and sorted(tmp_path.iterdir()) == files
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(files[0]))), image[0] + 0.25)


def test_numbers_that_do_not_fit_the_channels_are_named(tmp_path):
    with pytest.raises(XModalError, match=r"2 predicted channels cannot be numbered \[1\]"):
        write_images(*case(), tmp_path / "A", channel_numbers=[1])


def test_who_tries_again_has_the_memory_of_the_first_try(make_predictor):
    """nnU-Net does so, with results on the CPU, while the error holds the frame in which it was raised."""

    class OutOfMemory(Scaled):
        def forward(self, x):
            raise RuntimeError("out of memory")

    predictor, image = make_predictor(OutOfMemory()), torch.ones(2, 1, 16, 16)
    slicers = predictor._internal_get_sliding_window_slicers(image.shape[1:])
    with pytest.raises(RuntimeError, match="out of memory") as raised:
        predictor._internal_predict_sliding_window_return_logits(image, slicers)
    (held,) = [
        entry.frame.f_locals
        for entry in raised.traceback
        if entry.name == "_internal_predict_sliding_window_return_logits"
    ]
    assert not [name for name, value in held.items() if isinstance(value, torch.Tensor)]
