"""`--max_memory`: the same labels, with results on the disk; and a case that cannot fit is told before."""

import tracemalloc

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape, resample_data_or_seg_to_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction import logits_on_disk
from nnunet_xmodal.prediction.case_memory import CaseMemory
from nnunet_xmodal.prediction.memory_limit import MemoryLimit
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.segmentation_of_logits import can_go_by_class, segmentation_of
from nnunet_xmodal.tasks.reconstruction.predictor import ReconstructionPredictor
from nnunet_xmodal.tasks.registration.predictor import RegistrationPredictor
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor


def voxels(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_results_on_the_disk_are_nnunets(make_model, scans, run, tmp_path, monkeypatch, dimensions):
    model = make_model(dimensions)
    scans(cases=("anna",))
    run(model, "usual", "--disable_tta")
    monkeypatch.setattr(MemoryLimit, "holds", lambda *_: False)
    made = []
    on_disk = logits_on_disk.zeros_on_disk
    monkeypatch.setattr(logits_on_disk, "zeros_on_disk", lambda *a: made.append(on_disk(*a)) or made[-1])
    run(model, "bounded", "--disable_tta", "--max_memory", "2")
    assert len(made) == 2 and made[0].dtype == torch.float16
    np.testing.assert_array_equal(
        voxels(tmp_path / "bounded" / "anna.nii.gz"), voxels(tmp_path / "usual" / "anna.nii.gz")
    )
    assert {path.suffix for path in (tmp_path / "bounded").iterdir()} == {".gz", ".json"}


def test_what_does_not_fit_is_told_before(make_model, scans, run, tmp_path):
    scans()
    model = make_model()
    with pytest.raises(XModalError, match="--max_memory 0.5: anna takes about 1.1 GB: give 1.1 or more"):
        run(model, "out", "--max_memory", "0.5")
    with pytest.raises(XModalError, match="above 0"):
        run(model, "out", "--max_memory", "0")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_a_sentence(full_disk, tmp_path):
    with full_disk(1000), pytest.raises(XModalError, match="because the disk is full"):
        logits_on_disk.zeros_on_disk((3, 20, 20, 20), tmp_path)
    assert not list(tmp_path.iterdir())


def test_when_results_go_to_the_disk(tmp_path):
    data = torch.zeros(2, 10, 100, 1000)  # 8 MB, and a megabyte for each byte per voxel
    for heads, folds, sums, megabytes in (
        (3, 1, False, 8 + 15 + 3),
        (3, 2, False, 8 + 21 + 3),
        (9, 1, False, 8 + 45 + 3),
        (3, 1, True, 8 + 15 + 3 + 24),
    ):
        assert MemoryLimit(1 + megabytes / 1e3 + 1e-6, tmp_path).holds(data, heads, folds, sums)
        assert not MemoryLimit(1 + megabytes / 1e3 - 1e-6, tmp_path).holds(data, heads, folds, sums)


@pytest.fixture
def case_of(tmp_path, make_plans):
    """The memory of a case of two channels, by the header of its first image and plans of another spacing."""

    def make(size, spacing, planned, dimensions=3, forced=False, transpose=(0, 1, 2), order=1):
        image = sitk.Image(size[::-1], sitk.sitkInt16)
        image.SetSpacing(spacing[::-1])
        sitk.WriteImage(image, str(tmp_path / "a_0000.nii"))
        plans = make_plans(dimensions)
        plans["transpose_forward"] = list(transpose)
        (name, settings), *_ = plans["configurations"].items()
        settings["spacing"] = planned
        settings["resampling_fn_data_kwargs"] = {"force_separate_z": forced, "order": order}
        manager = PlansManager(plans)
        return CaseMemory.of_files([tmp_path / "a_0000.nii"] * 2, manager, manager.get_configuration(name))

    return make


def test_voxels_are_those_before_and_after_resampling(case_of):
    assert case_of([10, 20, 30], [2.0, 1.0, 1.0], [1.0, 0.5, 1.0]) == CaseMemory(2, 6000, 24000)
    assert case_of([10, 20, 30], [2.0, 1.0, 1.0], [1.0, 0.5, 1.0], transpose=(1, 0, 2)) == CaseMemory(2, 6000, 24000)
    assert case_of([10, 20, 30], [4.0, 1.0, 1.0], [0.5, 0.5], dimensions=2) == CaseMemory(2, 6000, 24000)
    apart = case_of([10, 20, 30], [4.0, 1.0, 1.0], [2.0, 1.0, 1.0], forced=None)
    assert apart == CaseMemory(2, 6000, 12000, apart=True)
    # slices stay: only what lies within is resampled, and no coordinates are held
    assert not case_of([10, 20, 30], [4.0, 1.0, 1.0], [4.0, 0.5, 1.0], forced=None).apart
    assert case_of([20, 30], [1.0, 1.0], [0.5, 0.5], dimensions=2) == CaseMemory(2, 600, 600)
    cubic = case_of([10, 20, 30], [2.0, 1.0, 1.0], [1.0, 0.5, 1.0], order=3)
    assert cubic == CaseMemory(2, 6000, 24000, splines=34 * 44 * 54)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("apart", [False, True])
def test_resampling_takes_as_much_memory_as_is_said(case_of, apart, order):
    size = [20, 50, 60]
    spacing, planned, forced = (
        ([4.0, 1.0, 1.0], [3.0, 0.8, 0.8], None) if apart else ([1.0] * 3, [0.9, 0.8, 0.8], False)
    )
    memory = case_of(size, spacing, planned, forced=forced, order=order)
    assert memory.apart == apart
    data, target = np.zeros((2, *size), np.float32), compute_new_shape(size, spacing, planned)
    tracemalloc.start()
    made = resample_data_or_seg_to_shape(data, target, spacing, planned, order=order, force_separate_z=forced)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made[0].size == memory.planned
    said = memory.to_prepare() - 2 * data.nbytes  # the channels as read, and the copy that is normalised
    assert 0.95 * said < peak < 1.05 * said


def test_more_is_needed_for_all_classes_at_once_for_sums_and_in_the_second_stage_of_a_cascade():
    case = CaseMemory(2, 1000, 2000)
    assert case.to_export(3) > case.to_export() and case.to_sum(3) > case.preprocessed
    assert CaseMemory(2, 1000, 2000, one_hot=3).to_export() - case.to_export() == 3 * 4 * 2000


def test_what_a_limit_does_not_bound_is_refused(make_model, scans, run, tmp_path):
    scans()
    with pytest.raises(XModalError, match="--attention_maps takes two processes more.*leave one out"):
        run(make_model(trainer="nnUNetTrainerCSAD"), "out", "--max_memory", "2", "--attention_maps")
    request = PredictionRequest(
        images=tmp_path, output=tmp_path, trainer="nnUNetTrainerQSM", dataset=1, configuration="2d", max_memory=2
    )
    for kind in (RegistrationPredictor, ReconstructionPredictor, SynthesisPredictor):
        with pytest.raises(XModalError, match="--max_memory bounds predictions of label maps, which nnUNetTrainerQSM"):
            kind.from_request(request)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["labels", "labels+ignore", "regions"])
@pytest.mark.parametrize("sides", [(5, 7, 6), (8, 12, 9)])
def test_class_by_class_is_all_at_once(make_plans, make_dataset_json, kind, sides):
    plans = make_plans(3)
    plans["transpose_forward"], plans["transpose_backward"] = [1, 2, 0], [2, 0, 1]
    manager = PlansManager(plans)
    labels = manager.get_label_manager(make_dataset_json(kind))
    configuration = manager.get_configuration("3d_fullres")
    logits = (
        np.random.default_rng(0).integers(-2, 3, (labels.num_segmentation_heads, *sides)).astype(np.float16)
    )  # ties
    properties = {
        "spacing": [1.0, 1.2, 0.8],
        "shape_before_cropping": (10, 14, 12),
        "shape_after_cropping_and_before_resampling": (8, 12, 9),
        "bbox_used_for_cropping": [[1, 9], [0, 12], [2, 11]],
    }
    assert can_go_by_class(labels)
    theirs = convert_predicted_logits_to_segmentation_with_correct_shape(
        logits, manager, configuration, labels, properties, num_threads_torch=1
    )
    ours = segmentation_of(logits, properties, configuration, manager, labels)
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == theirs.dtype and len(np.unique(ours)) > 1
    labels.inference_nonlin = torch.tanh
    assert can_go_by_class(labels) == (not labels.has_regions)
