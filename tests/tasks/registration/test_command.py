"""`nnUNetXModal_predict` with models of the real trainers, whose last layer is told what to find."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from fast_ones import one_fast_in
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.model import Model
from nnunet_xmodal.networks.attention_reg import AttentionReg
from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.predict import predict

DATASET, PLANS, GRID, SIDE = "Dataset999_Tiny", "nnUNetRegistrationPlans", (8, 16, 16), 20
IMAGE = "nnUNetTrainerAttentionReg"
LABEL, FEATURES, STAGE2 = (f"nnUNetTrainer{name}" for name in ("AttentionRegLabel", "FeatureReg", "AttentionRegStage2"))
FIRST, SECOND = (1.0, -2.0, 3.0, 4.0, -5.0, 6.0), (-0.5, 1.0, 0.5, 2.0, 3.0, -1.0)


@pytest.fixture
def make_model(write_model, make_plans):
    """`(trainer, *answers)` → folder of a model with a fold for each answer."""

    def make(trainer, *answers):
        plans = make_plans(3, channels=2, patch_size=GRID)
        plans["plans_name"] = PLANS
        configuration = plans["configurations"]["3d_fullres"]
        configuration["normalization_schemes"] = ["NoNormalization"] * 2
        configuration["architecture"] = {
            "network_class_name": f"{AttentionReg.__module__}.AttentionReg",
            "arch_kwargs": {"grid": list(GRID)},
            "_kw_requires_import": [],
        }
        dataset_json = {
            "channel_names": {"0": "MR", "1": "US"},
            "labels": {"background": 0, "organ": 1},
            "numTraining": 5,
            "file_ending": ".nii.gz",
        }
        networks = [AttentionReg(GRID, None if trainer == FEATURES else CrossModalAttention) for _ in answers]
        for network, answer in zip(networks, answers):
            torch.nn.init.zeros_(network.regressor[-1].weight)
            network.regressor[-1].bias.data = torch.tensor(answer)
        return write_model(trainer, plans, dataset_json, networks)

    return make


@pytest.fixture
def images(tmp_path):
    """Two images on one grid of 1 mm about the origin, and a label in the middle."""
    rng = np.random.default_rng(0)
    for folder, name, array in (
        ("in", "anna_0000", rng.uniform(1, 2, (SIDE,) * 3)),
        ("in", "anna_0001", rng.uniform(1, 2, (SIDE,) * 3)),
        ("labels", "anna", np.pad(np.ones((6,) * 3), 7)),
    ):
        image = sitk.GetImageFromArray(array.astype(np.float32))
        image.SetOrigin([-(SIDE - 1) / 2] * 3)
        (tmp_path / folder).mkdir(exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / folder / f"{name}.nii.gz"))


def run(tmp_path, trainer, *flags):
    args = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-d", DATASET, "-p", PLANS, "-c", "3d_fullres"]
    args += ["-tr", trainer, "-device", "cpu", "--disable_progress_bar", *flags]
    predict(request_of(parser().parse_args([str(word) for word in args])))
    return sitk.ReadTransform(str(tmp_path / "out" / "anna.tfm"))


def back(*answers):
    """The fixed → moving point of registrations one after the other, about the origin."""
    x = np.eye(4)
    for answer in answers:
        x = x @ np.linalg.inv(rigid_transform.matrix(torch.tensor(answer).double()).numpy())
    return x


def assert_same_transform(transform, matrix):
    points = np.random.default_rng(1).uniform(-20, 20, (30, 3))
    theirs = np.array([transform.TransformPoint(point.tolist()) for point in points])
    assert np.abs(theirs - points @ matrix[:3, :3].T - matrix[:3, 3]).max() < 1e-3


@pytest.mark.parametrize("trainer", one_fast_in(2, [IMAGE, FEATURES]))
def test_a_model_as_trainers_write_it(make_model, images, tmp_path, trainer):
    make_model(trainer, FIRST)
    assert_same_transform(run(tmp_path, trainer, "-f", 0), back(FIRST))


def test_folds_and_stages(make_model, images, tmp_path):
    make_model(IMAGE, FIRST, (0.0,) * 6)
    make_model(STAGE2, SECOND, SECOND)
    mean = rigid_transform.mean_se3(rigid_transform.matrix(torch.tensor([FIRST, (0.0,) * 6]).double()))
    transform = run(tmp_path, IMAGE, "-f", 0, 1, "--stage2", STAGE2)
    assert_same_transform(transform, back(rigid_transform.parameters(mean).tolist(), SECOND))
    assert f"{IMAGE} + {STAGE2}" in (tmp_path / "out" / "registration.csv").read_text()


def test_a_model_that_reads_labels(make_model, images, tmp_path):
    make_model(LABEL, FIRST)
    with pytest.raises(XModalError, match=f"models of {LABEL} read the label .* give the folder of <case>.nii.gz with"):
        run(tmp_path, LABEL, "-f", 0)
    assert not (tmp_path / "out").exists()
    assert_same_transform(run(tmp_path, LABEL, "-f", 0, "--labels", tmp_path / "labels"), back(FIRST))


@pytest.mark.parametrize("trainer", one_fast_in(2, [FEATURES, IMAGE]))
def test_heat_maps(make_model, images, tmp_path, trainer):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    make_model(trainer, FIRST)
    run(tmp_path, trainer, "-f", 0, "--grad_cam")
    assert len(list((tmp_path / "out").glob("anna_gradcam_*.nii.gz"))) == 2


@pytest.mark.parametrize(
    "flags, sentence",
    [
        (["-f", 3], "fold_3/checkpoint_final.pth is missing: train that fold"),
        (["-f", 0, "--stage2", STAGE2], f"there is no model .*{STAGE2}__"),
        (["-f", 0, "--stage2", "nnUNetTrainerCSAD"], "--stage2 nnUNetTrainerCSAD is no trainer of registration"),
        (["-f", 0, "--attention_maps"], f"--attention_maps does not apply to models of {IMAGE}"),
    ],
)
def test_refusals(make_model, images, tmp_path, flags, sentence):
    make_model(IMAGE, FIRST)
    make_model("nnUNetTrainerCSAD", FIRST)
    with pytest.raises(XModalError, match=sentence):
        run(tmp_path, IMAGE, *flags)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--init", "none"], ["--refine", "mi"], ["--grad_cam"]])
def test_other_models_do_not_know_these_flags(make_model, images, tmp_path, flags):
    make_model("nnUNetTrainerCSAD", FIRST)
    with pytest.raises(XModalError, match=f"{flags[0]} does not apply to models of nnUNetTrainerCSAD"):
        run(tmp_path, "nnUNetTrainerCSAD", "-f", 0, *flags)


def test_stock_prediction_names_the_command(make_model):
    folder = make_model(IMAGE, FIRST)
    with pytest.raises(XModalError, match="predict transforms, .* use nnUNetXModal_predict with the same flags"):
        nnUNetPredictor(device=torch.device("cpu")).initialize_from_trained_model_folder(str(folder), (0,))


def test_a_transform_in_memory(make_model, images, tmp_path, from_folder_and_zip):
    folder = make_model(IMAGE, FIRST)
    given = {name: sitk.ReadImage(str(tmp_path / "in" / f"anna_{n:04d}.nii.gz")) for n, name in enumerate(("MR", "US"))}
    for model in from_folder_and_zip(folder):
        assert model.channels == ["MR", "US"]
        for _ in range(2):
            assert_same_transform(model(given), back(FIRST))
        begun = model(given, init="geometry", roi=sitk.ReadImage(str(tmp_path / "labels" / "anna.nii.gz")))
        assert isinstance(begun, sitk.Euler3DTransform)
        assert_same_transform(begun, back(FIRST))


def test_a_second_stage_in_memory_lies_beside_the_first(make_model, images, tmp_path):
    folder = make_model(IMAGE, FIRST)
    make_model(STAGE2, SECOND)
    given = {name: sitk.ReadImage(str(tmp_path / "in" / f"anna_{n:04d}.nii.gz")) for n, name in enumerate(("MR", "US"))}
    with Model.load(folder, device="cpu") as model:
        assert_same_transform(model(given, stage2=STAGE2), back(FIRST, SECOND))
