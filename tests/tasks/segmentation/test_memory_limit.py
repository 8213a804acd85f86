"""`--max_memory`: the same labels, with results on the disk; and a case that cannot fit is told before."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction import logits_on_disk
from nnunet_xmodal.prediction.memory_limit import MemoryLimit
from nnunet_xmodal.prediction.segmentation_of_logits import can_go_by_class, segmentation_of


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
    with pytest.raises(XModalError, match="--max_memory 0.5: anna takes about 1.0 GB to read and to preprocess"):
        run(model, "out", "--max_memory", "0.5")
    with pytest.raises(XModalError, match="above 0"):
        run(model, "out", "--max_memory", "0")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_a_sentence(full_disk, tmp_path):
    with full_disk(1000), pytest.raises(XModalError, match="because the disk is full"):
        logits_on_disk.zeros_on_disk((3, 20, 20, 20), tmp_path)
    assert not list(tmp_path.iterdir())


def test_when_results_go_to_the_disk(tmp_path):
    data = torch.zeros(2, 10, 100, 1000)  # 8 MB, and 2 MB for each head and the weights
    for heads, folds, megabytes in ((3, 1, 24), (3, 2, 36), (9, 1, 48)):
        assert MemoryLimit(1 + megabytes / 1e3 + 1e-6, tmp_path).holds(data, heads, folds)
        assert not MemoryLimit(1 + megabytes / 1e3 - 1e-6, tmp_path).holds(data, heads, folds)


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
