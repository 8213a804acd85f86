"""Plans of every planner pass; each of their names may be a stranger's, and each is looked at."""

import copy

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.files.trusted_plans import check_plans


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_plans_of_nnunet_pass_unchanged(make_plans, dimensions, residual):
    plans = make_plans(dimensions, residual)
    before = copy.deepcopy(plans)
    check_plans(plans, "plans.json")
    assert plans == before


def test_other_names_of_nnunet_pass(make_plans):
    plans = make_plans(3)
    (configuration,) = plans["configurations"].values()
    configuration |= {"normalization_schemes": ["CTNormalization", "NoNormalization"], "next_stage": ["a", "b"]}
    configuration["resampling_fn_data"] = "resample_torch_fornnunet"
    plans |= {"image_reader_writer": "NibabelIOWithReorient", "experiment_planner_used": "nnUNetPlannerResEncL"}
    plans["configurations"]["child"] = {"inherits_from": "3d_fullres", "batch_size": 3}
    check_plans(plans, "plans.json")


def test_plans_from_before_architectures_and_networks_that_have_moved_pass(make_plans):
    plans = make_plans(2)
    architecture = plans["configurations"]["2d"]["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet"
    check_plans(plans, "plans.json")
    plans["configurations"]["2d"].pop("architecture")
    check_plans(plans, "plans.json")


def of_architecture(key, value, imported=()):
    def change(plans):
        architecture = plans["configurations"]["2d"]["architecture"]
        architecture["arch_kwargs"][key] = value
        architecture["_kw_requires_import"] += imported

    return change


def of_configuration(**entries):
    return lambda plans: plans["configurations"]["2d"].update(entries)


def network(name):
    return lambda plans: plans["configurations"]["2d"]["architecture"].update(network_class_name=name)


def in_another_configuration(plans):
    other = copy.deepcopy(plans["configurations"]["2d"])
    other["architecture"]["arch_kwargs"]["norm_op"] = "os.system"
    plans["configurations"]["3d_fullres"] = other


STRANGE = {
    "nonlin": of_architecture("nonlin", "subprocess.check_output"),
    "conv_op": of_architecture("conv_op", "torch.nn.modules.module.torch.hub.load"),
    "norm_op": of_architecture("norm_op", "os.system"),
    "dropout_op": of_architecture("dropout_op", "builtins.exec"),
    "mine": of_architecture("mine", "shutil.rmtree", ["mine"]),
    "network_class_name": network("subprocess.Popen"),
    "network_class_name ": network("dynamic_network_architectures.architectures.unet.torch.load"),
    "norm_op ": in_another_configuration,
    "normalization_schemes": of_configuration(normalization_schemes=["ZScoreNormalization", "np"]),
    "normalization_schemes ": of_configuration(normalization_schemes=["os.system", "os.system"]),
    "preprocessor_name": of_configuration(preprocessor_name="example_test_case_preprocessing"),
    "preprocessor_name ": of_configuration(preprocessor_name="../../evil"),
    "resampling_fn_data": of_configuration(resampling_fn_data="map_coordinates"),
    "resampling_fn_seg": of_configuration(resampling_fn_seg="os"),
    "resampling_fn_probabilities": of_configuration(resampling_fn_probabilities=["a"]),
    "image_reader_writer": lambda plans: plans.update(image_reader_writer="np"),
    "label_manager": lambda plans: plans.update(label_manager="np"),
}


@pytest.mark.parametrize("key", STRANGE)
def test_a_stranger_in_any_place_is_named(make_plans, key):
    plans = make_plans(2)
    STRANGE[key](plans)
    with pytest.raises(XModalError) as error:
        check_plans(plans, "model/plans.json")
    sentence = str(error.value)
    assert sentence.startswith(f"{key.strip()} in ") and "model/plans.json is" in sentence and "--trust" in sentence
    with trusting(True):
        check_plans(plans, "model/plans.json")


@pytest.mark.parametrize("name", ["../elsewhere", "/etc/x", "a\\b", "..", "a\nb", 5, "\x00"])
@pytest.mark.parametrize("key", ["dataset_name", "plans_name", "data_identifier", "previous_stage", "next_stage"])
def test_no_part_of_a_path_leads_elsewhere(make_plans, key, name):
    plans = make_plans(2)
    (plans if key in plans else plans["configurations"]["2d"])[key] = name
    for trust in (False, True):
        with trusting(trust), pytest.raises(XModalError, match=f"{key} .*leads to another folder"):
            check_plans(plans, "plans.json")


@pytest.mark.parametrize(
    "plans", [None, [], {}, {"configurations": []}, {"configurations": {"2d": "x"}}, {"configurations": None}]
)
def test_what_are_no_plans(plans):
    with pytest.raises(XModalError, match="holds no plans"):
        check_plans(plans, "plans.json")


@pytest.mark.parametrize("parent", ["2d", "child", "absent", 3])
def test_configurations_inherit_from_one_that_is_there(make_plans, parent):
    plans = make_plans(2)
    plans["configurations"]["child"] = {"inherits_from": parent}
    if parent == "2d":
        return check_plans(plans, "plans.json")
    with pytest.raises(XModalError, match="configuration child of plans.json inherits from"):
        check_plans(plans, "plans.json")


@pytest.mark.parametrize("lost", ["network_class_name", "arch_kwargs", "_kw_requires_import"])
def test_an_incomplete_architecture(make_plans, lost):
    plans = make_plans(2)
    del plans["configurations"]["2d"]["architecture"][lost]
    with pytest.raises(XModalError, match="the architecture in configuration 2d of plans.json is incomplete"):
        check_plans(plans, "plans.json")


@pytest.mark.parametrize("name", ["nnUNetTrainerMultiStream", "nnUNetTrainerCMFT"])
def test_our_trainers_look_before_they_begin(make_trainer, make_plans, tmp_path, name):
    plans = make_plans(2, streams=[[0], [1]])
    of_architecture("nonlin", "subprocess.check_output")(plans)
    with pytest.raises(XModalError, match="nonlin in .* is 'subprocess.check_output'"):
        make_trainer(name, plans)
    assert not list((tmp_path / "nnUNet_results").iterdir())
