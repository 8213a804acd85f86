from pathlib import Path

import pytest

from nnunet_xmodal.comparison.common_cases import common_cases
from nnunet_xmodal.comparison.cross_validation import CaseResult, ModelResults
from nnunet_xmodal.errors import XModalError

LABELS = {"labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}


def model(name: str, folds: dict[str, str], missing=(), reported=None, prediction=None, **dataset_json) -> ModelResults:
    cases = {case: CaseResult(fold, case, prediction, reported or {}) for case, fold in folds.items()}
    return ModelResults(name, Path(name), {**LABELS, **dataset_json}, cases, list(missing))


SPLIT = {"a": "0", "b": "0", "c": "1"}


def test_like_results_have_all_cases_in_common():
    assert common_cases([model("x", SPLIT), model("y", SPLIT)]) == (["a", "b", "c"], [])


def test_one_model_alone_is_like_itself():
    assert common_cases([model("x", SPLIT)]) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    "other, fault",
    [
        (model("y", {"a": "0", "b": "0"}), "y has no result of c, which x has"),
        (model("y", {**SPLIT, "d": "1"}), "x has no result of d, which y has"),
        (model("y", {**SPLIT, "b": "1"}), "other splits: b was validated in fold 0 of x, fold 1 of y"),
        (model("y", SPLIT, missing=["fold_3 is missing"]), "fold_3 is missing"),
    ],
)
def test_unlike_cases_are_named_and_left_out_on_demand(other, fault):
    with pytest.raises(XModalError, match=fault + r".*--allow-missing"):
        common_cases([model("x", SPLIT), other])
    cases, notes = common_cases([model("x", SPLIT), other], allow_missing=True)
    assert set(cases) <= set(SPLIT) and len(notes) == 1 and fault in notes[0]


def test_faults_are_counted():
    with pytest.raises(XModalError, match=r"\(and 1 more\)"):
        common_cases([model("x", SPLIT), model("y", {"c": "1"})])


def test_predictions_without_folds_take_part_in_any_split():
    folder = model("other tool", dict.fromkeys(SPLIT, ""))
    assert common_cases([model("x", SPLIT), folder])[0] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "other, what",
    [
        ({"labels": {"background": 0, "tumour": 1}}, "labels"),
        ({"file_ending": ".mha"}, "file ending"),
        ({"regions_class_order": [1]}, "order of regions"),
    ],
)
@pytest.mark.parametrize("allow_missing", [False, True])
def test_other_labels_and_files_are_never_compared(other, what, allow_missing):
    with pytest.raises(XModalError, match=what):
        common_cases([model("x", SPLIT), model("y", SPLIT, **other)], allow_missing)


def test_a_reference_without_any_result_is_a_missing_case():
    models = [model("x", SPLIT), model("y", SPLIT)]
    with pytest.raises(XModalError, match="a reference of d, but no result.*the 3 cases"):
        common_cases(models, expected=[*SPLIT, "d"])
    cases, notes = common_cases(models, allow_missing=True, expected=[*SPLIT, "d"])
    assert cases == list(SPLIT) and "reference of d" in notes[0]


def test_results_of_different_tasks_are_never_compared():
    points, images = {"1": {"SRE_mm": 2.0}}, {"1": {"SSIM": 0.9, "PSNR": 30.0}}
    lesion = {"lesion": {"Dice": 0.5}}
    for first, other in (
        (model("x", SPLIT, reported=points), model("y", SPLIT, reported=images)),
        (model("x", SPLIT, reported=points), model("y", SPLIT, prediction=Path("y.nii.gz"))),
    ):
        with pytest.raises(XModalError, match="no metric in common"):
            common_cases([first, other], allow_missing=True)
    for first, other in (
        (model("x", SPLIT, reported=images), model("y", SPLIT, reported={"1": {"SSIM": 0.8}})),
        (model("x", SPLIT, reported=lesion), model("y", SPLIT, prediction=Path("y.nii.gz"))),
    ):
        assert common_cases([first, other])[0] == list(SPLIT)


def test_nothing_left_to_compare_is_not_offered():
    with pytest.raises(XModalError, match="x has no result at all: fold_7 is missing, train it or check -f"):
        common_cases([model("x", {}, missing=["fold_7 is missing"])])
    with pytest.raises(XModalError, match=r"^(?!.*--allow-missing)x, y have no case in common \(y has no result of a"):
        common_cases([model("x", {"a": "0"}), model("y", {"b": "0"})])
    with pytest.raises(XModalError, match="y, z have no result of b, which x has"):
        common_cases([model("x", SPLIT), *(model(name, {"a": "0"}) for name in "yz")])


def test_nothing_in_common_is_an_error_in_any_case():
    with pytest.raises(XModalError, match="no case in common"):
        common_cases([model("x", {"a": "0"}), model("y", {"b": "0"})], allow_missing=True)
