"""Trainers of susceptibility mapping: what every trainer must do, what they read, and that they learn."""

import math
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in
from susceptibility_batches import SPACING, batch_for

from nnunet_xmodal import trainers
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.geometry.in_plane_rotation import size_before_rotation
from nnunet_xmodal.networks.qsm_unet import QSMUNet
from nnunet_xmodal.physics.measured_field import FieldGeometry
from nnunet_xmodal.physics.simulate import local_field
from nnunet_xmodal.prediction.building import building
from nnunet_xmodal.tasks.reconstruction.susceptibility import SusceptibilityPredictor
from nnunet_xmodal.trainers import TRAINERS
from nnunet_xmodal.trainers.base.reconstruction import ReconstructionTrainer

NAMES = [name for name in TRAINERS if issubclass(getattr(trainers, name), ReconstructionTrainer)]
ONE_OF_EVERY_KIND = [name for name in NAMES if not name.endswith("Direct") or name == "nnUNetTrainerQSMDirect"]
PATCH = (8, 8, 8)
PAPER = {"Direct": 22_581_217, "FADirect": 23_369_189, "RSADirect": 23_369_188, "DualAttentionDirect": 51_487_843}


@pytest.fixture
def make(make_trainer, make_plans):
    def make(name="nnUNetTrainerQSM", patch=PATCH, widths=(4, 8), unet=False, field=None, initialize=True, **options):
        plans = make_plans(dimensions=3, patch_size=patch)
        plans["plans_name"] = "nnUNetReconstructionPlans"
        plans["xmodal"] = {"target_channel": 1, "outputs": 1} | ({} if field is None else {"field": field})
        for channel, deviation in (("0", 0.01), ("1", 0.05)):
            plans["foreground_intensity_properties_per_channel"][channel]["std"] = deviation
        configuration = plans["configurations"]["3d_fullres"]
        configuration["normalization_schemes"] = ["NoNormalization"] * 2
        if not unet:
            configuration["architecture"] = {
                "network_class_name": f"{QSMUNet.__module__}.QSMUNet",
                "arch_kwargs": {"widths": list(widths)},
                "_kw_requires_import": [],
            }
        base = getattr(trainers, name)
        kind = type(name, (base,), {**options, "__module__": base.__module__}) if options else base
        trainer = make_trainer(kind, plans, initialize=initialize)
        for number, direction in enumerate(((1.0, 0.0, 0.0), (0.8, 0.6, 0.0))):
            trainer.geometries[f"case_{number}"] = FieldGeometry(SPACING, direction)
        return trainer

    return make


@pytest.mark.parametrize(
    "name, unet", one_fast_in(4, [(kind, unet) for unet in (False, True) for kind in ONE_OF_EVERY_KIND])
)
def test_builds_learns_saves_and_loads(make, name, unet, own_task):
    trainer = make(name, unet=unet)
    trainer.network.train()
    trainer.strengths, trainer.mirroring, trainer.rotation = None, False, 0.0  # the loss goes with them
    trainer.optimizer.param_groups[0]["lr"] = 1e-2  # it begins with total variation, which is near the target
    batch = batch_for(trainer)
    losses = [trainer.train_step(batch) for _ in range(40)]
    squares = {"squares"} if trainer.square_weight else set()
    assert set(losses[0]) == {"loss", "L1", "model", "gradient"} | squares
    assert np.mean([step["loss"] for step in losses[-5:]]) < 0.9 * losses[0]["loss"]
    learning = {name for name, parameter in trainer.network.named_parameters() if parameter.requires_grad}
    assert not learning.intersection(own_task.without_gradient(trainer.network))

    x = trainer.network_inputs(trainer.patches(batch))[..., :8, :8, :8]
    with torch.no_grad():
        assert trainer.network.eval()(x).shape == (2, 1, 8, 8, 8)
    own_task.is_saved_and_loaded(trainer, lambda: make(name, unet=unet), x)


@pytest.mark.parametrize(
    "name, killed_after", one_fast_in(3, [("nnUNetTrainerQSM", 3), ("nnUNetTrainerQSM", 1), ("nnUNetTrainerQSMFA", 3)])
)
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(make, name, killed_after, own_task):
    own_task.resumes_bit_for_bit(lambda: make(name), batch_for, epochs=4, steps=2, killed_after=killed_after)


@pytest.mark.parametrize("name", one_fast_in(6, NAMES))
def test_the_papers_parameters_and_the_cost_of_the_network_that_runs(make, name, own_task):
    large = make(name, patch=(32, 64, 64), widths=(32, 64, 128, 256, 512), initialize=False)
    parameters, flops = own_task.cost(large)
    variant = name.removeprefix("nnUNetTrainerQSM")
    if variant in PAPER:
        assert parameters == PAPER[variant]
    small = make(name)
    channels = 1 if small.field_inputs is None else 1 + small.field_inputs.channels
    assert own_task.cost(small)[1] == own_task.counted_flops(small.network, 1, channels, *PATCH) < flops


@pytest.mark.parametrize("name", ONE_OF_EVERY_KIND)
def test_autocast_to_bfloat16_is_finite(make, name, own_task):
    own_task.is_finite_in_bfloat16(make(name), batch_for)


def test_gradients_that_a_grad_scaler_scales_are_the_same(make, own_task):
    own_task.has_the_same_gradients_when_scaled(make, batch_for)


def test_the_learning_rate_falls_three_times_to_a_tenth(make, own_task):
    trainer = make()
    assert trainer.num_epochs == 60
    rates = own_task.rates(trainer, (0, 29, 30, 41, 42, 53, 54, 59))
    assert rates == pytest.approx([1e-3 * 0.1**drops for drops in (0, 0, 1, 1, 2, 2, 3, 3)])


@pytest.mark.parametrize("unit, one", [("ppm", 1.0), ("Hz", 127.732435554)])
def test_the_network_sees_ppm_whatever_the_unit(make, unit, one):
    trainer = make(field={"unit": unit, "B0": 3.0})
    patches = trainer.patches(batch_for(trainer, unit=one))
    field, _, *inversions = batch_for(trainer)["data"].unbind(1)
    torch.testing.assert_close(patches.inputs, torch.stack((field, *inversions), 1), rtol=1e-5, atol=1e-8)
    assert trainer.network.input_scale[0] == pytest.approx(0.01 / one) and trainer.network.output_scale == 0.05
    assert set(patches.mask.unique().tolist()) == {0.0, 1.0}


def test_patches_turn_together_and_keep_their_physics(make):
    """The field of the augmented target, in the augmented direction, is the augmented field."""
    trainer = make(patch=(24, 24, 24))
    axes = (0, 1, 2)
    patches = trainer.patches(batch_for(trainer))
    for mirrored in (False, True):
        trainer.mirroring = mirrored
        assert tuple(trainer._mirrored_in_training()) == (axes if mirrored else ())
        augmented = trainer.augmented(patches)
        assert augmented.target.shape == augmented.mask.shape == (2, 1, 24, 24, 24)
        assert augmented.inputs.shape == (2, 4, 24, 24, 24)
        assert set(augmented.mask.unique().tolist()) == {0.0, 1.0}
        field = local_field(augmented.target, augmented.mask, augmented.spacing, augmented.direction)
        inside = augmented.mask > 0
        measured = augmented.inputs[:, :1][inside]
        error = (field[inside] - measured).norm() / measured.norm()
        assert error < 0.15  # of linear interpolation, and of the mask's border
        torch.testing.assert_close(augmented.direction.norm(dim=1), torch.ones(2))
        assert not torch.equal(augmented.direction[1], patches.direction[1])
        along_normal = torch.tensor([1.0, 0.0, 0.0])
        torch.testing.assert_close(augmented.direction[0].abs(), along_normal)


def test_angles_are_within_fifteen_degrees(make):
    trainer = make(mirroring=False)
    patches = trainer.patches(batch_for(trainer))
    angles = []
    for _ in range(200):
        direction = trainer.augmented(patches).direction[1]
        angles.append(math.degrees(math.atan2(direction[2], direction[1])))
    assert -15 <= min(angles) < -13 and 13 < max(angles) <= 15


def test_mirroring_is_what_all_cases_allow(make):
    trainer = make()
    assert trainer.augmentation()[0] == size_before_rotation(PATCH, 15.0, 1.5)
    assert trainer.inference_allowed_mirroring_axes == (2,)  # one of the two main fields lies in the plane of z and y
    trainer.geometries["case_2"] = FieldGeometry(SPACING, (0.6, 0.48, 0.64))
    trainer.augmentation()
    assert trainer.inference_allowed_mirroring_axes == ()
    trainer = make(mirroring=False)
    trainer.augmentation()
    assert trainer.inference_allowed_mirroring_axes == ()


@pytest.mark.parametrize("against_measured_field", [False, True])
def test_the_model_term_vanishes_at_the_truth_whatever_lies_beyond_the_patch(make, against_measured_field):
    """Unless it is QSMnet's: the measured field has sources outside of the patch."""
    trainer = make(against_measured_field=against_measured_field)
    patches = trainer.patches(batch_for(trainer))
    patches.inputs = patches.inputs + 0.05  # a source from far away
    losses = trainer.losses(patches.target, patches)
    assert losses["L1"] == 0
    assert (losses["model"] > 0.01) == (losses["loss"] > 0.01) == against_measured_field


def test_a_perfect_network_scores_one(make):
    trainer = make()
    batch = batch_for(trainer)
    target = batch["data"][:, 1:]
    trainer.network = lambda x: target
    result = trainer.validation_step(batch)
    assert result["loss"] == 0 and result["score"] == 1
    trainer.network = lambda x: 0 * target
    assert trainer.validation_step(batch)["score"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", NAMES)
def test_nnunets_prediction_says_which_command_to_use(make, name, own_task):
    trainer = make(name)
    assert trainer.predictor_class is SusceptibilityPredictor
    own_task.refuses_stock_prediction(trainer, "images")


def test_nan_in_a_batch_names_the_case(make, own_task):
    own_task.names_the_case_with_nan(make(), batch_for)


def test_bad_cases_are_named_before_the_training_begins(make):
    trainer = make()
    data = 0.02 * np.random.default_rng(0).standard_normal((2, *PATCH)).astype(np.float32)
    mask = np.ones(PATCH, bool)
    place = {"sitk_stuff": {"direction": (1, 0, 0, 0, 1, 0, 0, 0, 1)}, "spacing": SPACING,
             "shape_after_cropping_and_before_resampling": PATCH}  # fmt: skip
    trainer.look_at("anna", data, mask, place)
    assert trainer.geometries["anna"] == FieldGeometry(SPACING, (1.0, 0.0, 0.0))
    with pytest.raises(XModalError, match="the mask of anna is empty"):
        trainer.look_at("anna", data, ~mask, place)
    with pytest.raises(XModalError, match="the susceptibilities of anna reach .* looks like ppb"):
        trainer.look_at("anna", data * np.array([1, 1000]).reshape(2, 1, 1, 1), mask, place)
    with pytest.raises(XModalError, match="the field of anna, read as ppm, reaches"):
        trainer.look_at("anna", data * np.array([1000, 1]).reshape(2, 1, 1, 1), mask, place)


@pytest.mark.parametrize("change", ["deviation", "field"])
def test_folds_of_other_units_or_deviations_do_not_share_plans(make, change):
    trainer = make(initialize=False)
    model = Path(trainer.output_folder_base)
    (model / "fold_3").mkdir(parents=True)
    (model / "fold_3" / "checkpoint_final.pth").touch()
    theirs = deepcopy(trainer.plans_manager.plans)
    write_json(theirs, model / "plans.json")
    trainer._check_scales_of_other_folds()
    if change == "field":
        theirs["xmodal"]["field"] = {"unit": "Hz", "B0": 3.0}
    else:
        theirs["foreground_intensity_properties_per_channel"]["1"]["std"] = 0.06
    write_json(theirs, model / "plans.json")
    with pytest.raises(XModalError, match="fold_3 was trained with the deviations and field .* restore the plans"):
        trainer.on_train_start()


def test_a_loss_that_turns_nan_stops_the_training(make, own_task):
    trainer = make()
    message = r"the loss \(loss, L1, model, gradient, squares\) turned NaN or infinite in epoch 0"
    last = trainer.network.network.decoder.seg_layers[-1].bias
    own_task.stops_at_nan(trainer, last, batch_for, message)


def test_a_model_from_before_there_were_inversions_is_built_and_predicts_as_it_was_trained(make):
    old = make("nnUNetTrainerQSMDirect")
    plans = old.plans_manager.plans
    assert "field_inputs" not in plans["xmodal"]
    x = torch.randn(1, 1, *PATCH)
    with building("predictor"), torch.no_grad():
        now = trainers.nnUNetTrainerQSM.build_network_architecture(
            old.plans_manager, old.configuration_manager, 2, 2, False
        )
        now.load_state_dict(old.network.state_dict())
        assert torch.equal(now.eval()(x), old.network.eval()(x))


def test_a_checkpoint_of_the_field_alone_does_not_go_on_as_another_network(make, tmp_path):
    old, file = make("nnUNetTrainerQSMDirect"), str(tmp_path / "checkpoint_latest.pth")
    old.save_checkpoint(file)
    checkpoint = torch.load(file, weights_only=False)
    checkpoint["trainer_name"] = "nnUNetTrainerQSM"
    torch.save(checkpoint, file)
    with pytest.raises(
        XModalError, match="reads the field alone, and nnUNetTrainerQSM now reads the field and .*Direct"
    ):
        make().load_checkpoint(file)


def test_untrained_it_adds_to_total_variation(make):
    trainer = make()
    with torch.no_grad():
        for parameter in trainer.network.network.decoder.seg_layers[-1].parameters():
            parameter.zero_()
        patches = trainer.patches(batch_for(trainer))
        inputs = trainer.network_inputs(patches)[..., :8, :8, :8]
        torch.testing.assert_close(trainer.network.eval()(inputs), inputs[:, 1:2])


def test_reversals_and_strengths_leave_the_physics_and_the_mask_alone(make):
    trainer = make(rotation=0.0, mirroring=False)
    patches = trainer.patches(batch_for(trainer))
    size = trainer.configuration_manager.patch_size
    middle = tuple(slice((whole - side) // 2, (whole + side) // 2) for whole, side in zip(patches.mask.shape[2:], size))
    factors = []
    for _ in range(60):
        augmented = trainer.augmented(patches)
        for case in range(2):
            plain = patches.target[case, 0][middle]
            factor = (augmented.target[case, 0] * plain).sum() / (plain**2).sum()
            for ours, theirs in ((augmented.target, patches.target), (augmented.inputs, patches.inputs)):
                expected = factor * theirs[case][(slice(None), *middle)]
                torch.testing.assert_close(ours[case], expected, rtol=1e-3, atol=1e-6)
            assert torch.equal(augmented.mask[case, 0], patches.mask[case, 0][middle])
            factors.append(float(factor))
    sizes = np.abs(factors)
    assert 0.59 < sizes.min() < 0.75 and 1.4 < sizes.max() < 1.61
    assert 0.3 < np.mean(np.array(factors) > 0) < 0.7
    plain = make(rotation=0.0, mirroring=False, reversals=False, strengths=None)
    torch.testing.assert_close(plain.augmented(patches).target, patches.target[(slice(None), slice(None), *middle)])


class OnDisk:
    """Two cases as nnU-Net has preprocessed them, as far as loaders look."""

    def __init__(self, folder, data):
        folder.mkdir()
        self.source_folder, self.identifiers, self.data = str(folder), ["case_0", "case_1"], data
        for case in self.identifiers:
            (folder / f"{case}.b2nd").write_text(case)

    def load_case(self, case):
        return self.data[int(case[-1])], np.ones((1, *self.data.shape[2:]), np.int16), None, {}


def test_loaders_find_the_inversions_of_the_whole_case_behind_the_target(make, tmp_path):
    trainer = make(field={"unit": "Hz", "B0": 3.0})
    data = batch_for(trainer, unit=127.732435554)["data"].numpy()
    dataset = OnDisk(tmp_path / "cases", data[:, :2])
    loaded = trainer.as_loaded(dataset).load_case("case_1")[0]
    np.testing.assert_allclose(loaded[:], data[1], rtol=1e-3, atol=1e-6)
    assert (tmp_path / "cases_inversions").is_dir()
    direct = make("nnUNetTrainerQSMDirect")
    assert direct.as_loaded(dataset) is dataset


def test_plans_keep_where_the_main_field_of_the_training_pointed(make):
    trainer = make()
    trainer.augmentation()
    assert trainer.plans_manager.plans["xmodal"]["directions"] == [[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]]
    assert trainer._mirrored_in_training() == (0, 1, 2) != trainer.inference_allowed_mirroring_axes
    assert make("nnUNetTrainerQSMDirect")._mirrored_in_training() == ()


@pytest.mark.parametrize("name", one_fast_in(6, NAMES))
def test_nothing_stays_on_the_cpu_where_there_is_a_gpu(make, pretended_gpu, name, own_task):
    own_task.is_all_on_a_gpu(pretended_gpu, lambda: make(name), batch_for)
