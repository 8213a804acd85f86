"""`nnUNetXModal_predict --roi` with a stock model of random weights, whose answers depend on all that it sees."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.spatial.transform import Rotation

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.predict import parser
from nnunet_xmodal.geometry.organ_crop import box_around, crop
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.prediction.run import predict

DATASET, SIZE, SPACING = "Dataset999_Tiny", (26, 22, 12), (1.0, 1.3, 2.5)
OBLIQUE = Rotation.from_euler("xyz", [14, -9, 20], degrees=True).as_matrix()
DIRECTIONS = {
    "straight": np.eye(3),
    "oblique": OBLIQUE,
    "flipped": np.diag([-1.0, -1.0, 1.0]),
    "left-handed": np.diag([1.0, -1.0, 1.0]),
    "axes swapped": np.eye(3)[[1, 2, 0]],
}


@pytest.fixture
def make_model(nnunet_folders, make_plans, make_dataset_json):
    """Writes a model folder as training leaves it, and returns the flags that name it."""

    def make(dimensions=3, kind="labels", trainer="nnUNetTrainer", cascade=False, reader="SimpleITKIO", **dataset):
        plans = make_plans(dimensions, channels=2)
        plans["image_reader_writer"] = reader
        plans["transpose_forward"], plans["transpose_backward"] = [1, 2, 0], [2, 0, 1]
        (name,) = plans["configurations"]
        plans["configurations"][name]["spacing"] = [1.9, 1.3, 1.1][:dimensions]
        if cascade:
            plans["configurations"][name]["previous_stage"] = "3d_lowres"
        dataset_json = {**make_dataset_json(kind), **dataset}
        manager = PlansManager(plans)
        heads = manager.get_label_manager(dataset_json).num_segmentation_heads
        torch.manual_seed(3)
        architecture = manager.get_configuration(name)
        trainer_class = nnUNetTrainer if trainer == "nnUNetTrainer" else getattr(trainers, trainer)
        network = trainer_class.build_network_architecture(manager, architecture, 4 if cascade else 2, heads, False)
        for parameter_name, parameter in network.named_parameters():  # so that every label wins somewhere
            if parameter_name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
            elif "seg_layers" in parameter_name:
                parameter.data -= parameter.data.mean(1, keepdim=True)
        folder = nnunet_folders / "nnUNet_results" / DATASET / f"{trainer}__nnUNetPlans__{name}"
        (folder / "fold_0").mkdir(parents=True)
        for file, content in (("plans", plans), ("dataset", dataset_json)):
            (folder / f"{file}.json").write_text(json.dumps(content))
        torch.save(
            {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"plans": plans, "configuration": name, "fold": 0},
                "inference_allowed_mirroring_axes": (0, 1),
            },
            folder / "fold_0" / "checkpoint_final.pth",
        )
        return ["-d", DATASET, "-c", name, "-tr", trainer, "-f", 0, "-device", "cpu", "--disable_progress_bar"]

    return make


def image_of(array, direction=OBLIQUE, spacing=SPACING):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetDirection(np.asarray(direction).ravel().tolist())
    image.SetOrigin((100.0, -40.0, 7.0))
    return image


def noise(seed):
    return np.random.default_rng(seed).normal(100, 30, SIZE[::-1]).astype(np.float32)


def block(*slices, value=1):
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[slices] = value
    return mask


ORGAN = block(slice(3, 7), slice(6, 15), slice(5, 14))
EVERYTHING = block(slice(None))


def write(image, *place):
    file = place[0].joinpath(*place[1:])
    file.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(file))
    return file


@pytest.fixture
def scans(tmp_path):
    """Writes two channels of every case, and its mask."""

    def make(direction=OBLIQUE, mask=ORGAN, cases=("anna", "bert")):
        for number, case in enumerate(cases):
            for channel in range(2):
                write(image_of(noise(2 * number + channel), direction), tmp_path, "in", f"{case}_000{channel}.nii.gz")
            write(image_of(mask, direction), tmp_path, "masks", f"{case}.nii.gz")

    return make


@pytest.fixture
def run(tmp_path):
    def run(model, output, *flags, images="in", processes=0):
        words = ["-i", tmp_path / images, "-o", tmp_path / output, "-npp", processes, "-nps", processes]
        predict(parser().parse_args([str(word) for word in (*words, *model, *flags)]))
        return tmp_path / output

    return run


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def probabilities(file):
    return np.load(file)["probabilities"]


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_whole_image_is_predicted_to_the_bit_as_without(make_model, scans, run, tmp_path, dimensions, kind):
    model = make_model(dimensions, kind)
    scans(mask=EVERYTHING)
    plain = run(model, "plain", "--save_probabilities")
    cropped = run(model, "cropped", "--save_probabilities", "--roi", tmp_path / "masks")
    for case in ("anna", "bert"):
        assert len(np.unique(voxels(plain / f"{case}.nii.gz"))) > 1
        assert (plain / f"{case}.nii.gz").read_bytes() == (cropped / f"{case}.nii.gz").read_bytes()
        assert np.array_equal(probabilities(plain / f"{case}.npz"), probabilities(cropped / f"{case}.npz"))


@pytest.mark.parametrize("kind", ["labels", "regions"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_case_is_predicted_as_its_crop_and_lies_in_the_whole(make_model, scans, run, tmp_path, direction, kind):
    """To the bit what the cropped files give; beyond the crop there is background."""
    model, margin = make_model(3, kind), 3.0
    scans(DIRECTIONS[direction], cases=["anna"])
    box = box_around(image_of(ORGAN, DIRECTIONS[direction]), margin)
    for channel in range(2):
        whole = sitk.ReadImage(str(tmp_path / "in" / f"anna_000{channel}.nii.gz"))
        write(crop(whole, box), tmp_path, "cut", f"anna_000{channel}.nii.gz")
    cut = run(model, "of_cut", "--save_probabilities", images="cut")
    full = run(model, "full", "--save_probabilities", "--roi", tmp_path / "masks", "--margin", margin)
    prediction = sitk.ReadImage(str(full / "anna.nii.gz"))
    assert same_grid(prediction, sitk.ReadImage(str(tmp_path / "in" / "anna_0000.nii.gz")))
    part = tuple(slice(first, first + side) for first, side in zip(box.start[::-1], box.size[::-1]))
    expected = np.zeros(SIZE[::-1], np.uint8)
    expected[part] = voxels(cut / "anna.nii.gz")
    assert expected.any() and np.array_equal(sitk.GetArrayFromImage(prediction), expected)
    found = probabilities(full / "anna.npz")
    assert np.array_equal(found[(slice(None), *part)], probabilities(cut / "anna.npz"))
    outside = np.ones(SIZE[::-1], bool)
    outside[part] = False
    assert (found[1 if kind == "labels" else 0 :, outside] == 0).all()
    assert kind == "regions" or (found[0, outside] == 1).all()
