import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("picai_eval", reason="picai_eval is not installed: pip install picai_eval")

from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.cross_validation import read_model
from nnunet_xmodal.comparison.detection_table import detection_table
from nnunet_xmodal.errors import XModalError


def add_probabilities(results, trainer: str, confident: bool) -> None:
    """Probabilities of the regions whole and core: right and sure, or sure of what is not there."""
    for fold in range(3):
        for file in results.validation(trainer, fold).glob("*.nii.gz"):
            array = sitk.GetArrayFromImage(sitk.ReadImage(str(results.references / file.name)))
            if not confident:
                array = np.roll(array, 12, axis=2)
            regions = np.stack([array > 0, array == 2]).astype(np.float32)  # 2 z y x
            np.savez(file.with_name(file.name.replace(".nii.gz", ".npz")), probabilities=0.9 * regions)
            results.write_label_map(array, file)
        results.summarise(trainer, fold)


def test_right_probabilities_find_every_lesion_and_wrong_ones_none(results, tmp_path):
    models = []
    for trainer, confident in (("right", True), ("wrong", False)):
        folder = results.add(trainer, shift=0)
        add_probabilities(results, trainer, confident)
        models.append(read_model(trainer, folder, [0, 1, 2]))
    cases = sorted(models[0].cases)
    cache = CaseCache(tmp_path / "cache")
    table = detection_table(models, cases, results.references, ["core"], cache, processes=1).set_index("model")
    assert table.loc["right", "AP"] == 1 and table.loc["right", "sensitivity_at_1_FP"] == 1
    assert table.loc["wrong", "AP"] == 0 and table.loc["wrong", "lesions"] == 6
    assert table["AUROC"].isna().all()  # every patient has a lesion
    assert table.loc["right", "AP_mean_of_folds"] == 1 and table.loc["right", "AP_sd_of_folds"] == 0
    again = detection_table(models, cases, results.references, ["core"], cache, processes=1).set_index("model")
    assert again.equals(table) and len(list((tmp_path / "cache").iterdir())) == 12


@pytest.mark.parametrize("shape", [(1, 10, 24, 28), (2, 10, 24, 27), (2, 24, 28)])
def test_probabilities_of_something_else_are_named(results, tmp_path, shape):
    model = read_model("A", results.add("A", shift=0), [0, 1, 2])
    for result in model.cases.values():
        np.savez(result.prediction.with_name(f"{result.case}.npz"), probabilities=np.zeros(shape, np.float32))
    cache = CaseCache(tmp_path / "cache")
    with pytest.raises(XModalError, match=r"a_1\.npz holds .*\(5 other cases"):
        detection_table([model], sorted(model.cases), results.references, ["core"], cache, processes=1)


def test_folds_that_share_no_case_are_left_out(results, tmp_path):
    """Where one of two models has fewer folds, and --allow-missing compares what both have."""
    folder = results.add("right", shift=0)
    add_probabilities(results, "right", True)
    model = read_model("right", folder, [0, 1, 2])
    cases = sorted(case for case in model.cases if model.cases[case].fold != "2")
    table = detection_table([model], cases, results.references, ["core"], CaseCache(tmp_path / "cache"), processes=1)
    assert len(cases) == 4 and table["AP_mean_of_folds"].item() == 1
