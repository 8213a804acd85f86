import json

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from fast_ones import one_fast_in
from PIL import Image

from nnunet_xmodal.comparison import case_table as module
from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import KEYS, case_table, read_label_map
from nnunet_xmodal.comparison.cross_validation import read_model
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings
from nnunet_xmodal.evaluation.metrics import SEGMENTATION_METRICS

CASES = ["a_1", "a_2", "b_1", "b_2", "c_1", "c_2"]


@pytest.fixture
def table_of(results, tmp_path):
    """`(trainers, …)` → table and metrics."""

    def make(*trainers, processes=1, settings=None, **more):
        models = [read_model(name, results.model_folder(name), [0, 1, 2]) for name in trainers]
        cache = CaseCache(tmp_path / "cache")
        return case_table(models, CASES, results.references, settings or MetricSettings(), cache, processes, **more)

    return make


@pytest.fixture
def computed(monkeypatch):
    """Prediction files that were computed, not read from the cache."""
    files, original = [], module._compute_case

    def count(task):
        files.extend(prediction.parts[-4].split("__")[0] for prediction, _ in task.predictions)
        return original(task)

    monkeypatch.setattr(module, "_compute_case", count)
    return files


def test_dice_and_iou_are_those_of_nnunets_summary(results, table_of):
    results.add("A", shift=2)
    table, _ = table_of("A")
    assert len(table) == 12
    for _, row in table.iterrows():
        summary = json.loads((results.validation("A", row["fold"]) / "summary.json").read_text())
        key = {"whole": "(1, 2)", "core": "(2,)"}[row["label"]]
        (told,) = (
            case["metrics"][key]
            for case in summary["metric_per_case"]
            if case["prediction_file"].endswith(f"{row['case']}.nii.gz")
        )
        assert row["Dice"] == pytest.approx(told["Dice"], abs=1e-12)
        assert row["IoU"] == pytest.approx(told["IoU"], abs=1e-12)


def test_distances_are_in_mm_of_the_files(results, table_of):
    results.add("A", shift=3)
    table, metrics = table_of("A")
    assert list(table.columns) == [*KEYS, *metrics] and set(metrics) == set(SEGMENTATION_METRICS)
    assert (table["HD95"] <= 3 * 0.5 + 1e-9).all() and (table["HD95"] > 0).all()  # three voxels of 0.5 mm along x
    voxels = (sitk.GetArrayFromImage(sitk.ReadImage(str(results.references / "c_2.nii.gz"))) == 2).sum()
    row = table[(table["case"] == "c_2") & (table["label"] == "core")].iloc[0]
    assert row["reference_volume_ml"] == pytest.approx(voxels * 1.5 / 1000)


def test_a_second_run_computes_only_what_is_new(results, table_of, computed):
    results.add("A", shift=1)
    first, _ = table_of("A")
    results.add("B", shift=2)
    computed.clear()
    both, _ = table_of("A", "B")
    assert computed == ["B"] * 6
    assert both[both["model"] == "A"].reset_index(drop=True).equals(first)
    computed.clear()
    table_of("A", "B", settings=MetricSettings(lesion_iou=0.5))
    assert sorted(computed) == ["A"] * 6 + ["B"] * 6


@pytest.mark.slow
def test_processes_make_no_difference(results, table_of, tmp_path):
    results.add("A", shift=1)
    alone, _ = table_of("A")
    for file in (tmp_path / "cache").iterdir():
        file.unlink()
    assert table_of("A", processes=2)[0].equals(alone)


def test_subjects_stand_beside_the_cases(results, table_of):
    results.add("A", shift=1)
    table, _ = table_of("A", subjects={case: case[0] for case in CASES})
    assert list(table["subject"]) == [case[0] for case in table["case"]]


def test_other_metrics_of_a_summary_are_columns_with_their_direction(results, table_of):
    results.add("A", shift=1)
    for fold in range(3):
        file = results.validation("A", fold) / "summary.json"
        summary = json.loads(file.read_text())
        for case in summary["metric_per_case"]:
            case["metrics"]["(2,)"] |= {"SSIM": 0.9, "seconds": 3}
        summary["xmodal"] = {"directions": {"SSIM": "higher"}}
        file.write_text(json.dumps(summary))
    table, metrics = table_of("A")
    assert (metrics["SSIM"].better, metrics["seconds"].better) == ("higher", None)
    core = table["label"] == "core"
    assert (table.loc[core, "SSIM"] == 0.9).all() and table.loc[~core, "SSIM"].isna().all()
    assert table["HD95"].notna().all()


def damage(results, how: str) -> None:
    file = results.validation("A", 1) / "b_1.nii.gz"
    image = sitk.ReadImage(str(file))
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-40])
    elif how == "spacing":
        image.SetSpacing((0.5, 1.0, 2.0))
    elif how == "origin":
        image.SetOrigin((1.0, 0.0, 0.0))
    elif how == "size":
        image = image[:-1]
    elif how == "label":
        image = sitk.GetImageFromArray(np.where(sitk.GetArrayFromImage(image) == 2, 5, 0).astype(np.uint8))
        image.SetSpacing((0.5, 1.0, 3.0))
    elif how == "shifted":
        array = np.roll(sitk.GetArrayFromImage(image), 2, axis=1)
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((0.5, 1.0, 3.0))
    if how != "truncated":
        sitk.WriteImage(image, str(file))


@pytest.mark.parametrize(
    "how, sentence",
    [
        ("truncated", "b_1.nii.gz cannot be read"),
        ("spacing", "b_1.nii.gz has the spacing"),
        ("origin", "b_1.nii.gz has the origin"),
        ("size", "b_1.nii.gz has the size"),
        ("label", "b_1.nii.gz holds the label 5, which dataset.json does not name"),
        ("shifted", "b_1.nii.gz has Dice .* but the summary.json beside it says"),
    ],
)
def test_a_damaged_prediction_is_named(results, table_of, how, sentence):
    results.add("A", shift=1)
    damage(results, how)
    with pytest.raises(XModalError, match=sentence):
        table_of("A")


@pytest.mark.parametrize(
    "content", one_fast_in(2, ["", '{"whole": {"Di', "[]", '{"whole": {"Dice": 1.0}}', '{"whole": 1, "core": 2}'])
)
def test_what_was_not_kept_in_full_is_computed_again(results, table_of, tmp_path, computed, content):
    results.add("A", shift=1)
    first, _ = table_of("A")
    sorted((tmp_path / "cache").iterdir())[0].write_text(content)
    computed.clear()
    assert table_of("A")[0].equals(first) and computed == ["A"]


@pytest.mark.parametrize(
    "told, sentence",
    [
        ({"(2,)": {"case": 1}}, 'a metric "case", which is the name of a column of cases.csv'),
        ({"mean over labels": {"SSIM": 1}}, 'a label "mean over labels"'),
    ],
)
def test_names_of_the_tables_own_are_refused(results, table_of, told, sentence):
    results.add("A", shift=1)
    file = results.validation("A", 0) / "summary.json"
    summary = json.loads(file.read_text())
    summary["metric_per_case"][0]["metrics"] |= told
    file.write_text(json.dumps(summary))
    with pytest.raises(XModalError, match=sentence):
        table_of("A")


def test_a_metric_has_one_direction(results, table_of):
    for trainer, better in (("A", "higher"), ("B", "lower")):
        results.add(trainer, shift=1)
        file = results.validation(trainer, 0) / "summary.json"
        summary = json.loads(file.read_text()) | {"xmodal": {"directions": {"SSIM": better}}}
        file.write_text(json.dumps(summary))
    with pytest.raises(XModalError, match="SSIM is better higher in .*A__.* but lower in .*B__"):
        table_of("A", "B")


LABELS = {"labels": {"background": 0, "a": 1, "b": 2}, "file_ending": ".nii.gz"}
GRID = np.zeros((4, 3, 2), np.int16)


@pytest.mark.parametrize(
    "array, affine, sentence",
    [
        (
            np.stack([GRID, GRID], -1),
            np.eye(4),
            r"is 4D \(4×3×2×2\), 2 volumes in one file",
        ),
        (np.full(GRID.shape, 0.5, np.float32), np.eye(4), "holds the label 0.5"),
        (np.full(GRID.shape, np.inf, np.float32), np.eye(4), "holds the label inf"),
        (np.full(GRID.shape, np.nan, np.float32), np.eye(4), "holds the label nan"),
        (-GRID - 1, np.eye(4), "holds the label -1"),
    ],
)
def test_what_is_no_label_map_is_named(tmp_path, array, affine, sentence):
    nibabel.save(nibabel.Nifti1Image(array, affine), tmp_path / "map.nii.gz")
    with pytest.raises(XModalError, match=f"map.nii.gz {sentence}"):
        read_label_map(tmp_path / "map.nii.gz", LABELS)


def test_colours_are_no_labels(tmp_path):
    Image.new("RGB", (5, 4)).save(tmp_path / "map.png")
    with pytest.raises(XModalError, match="map.png holds 3×1×4×5 numbers"):
        read_label_map(tmp_path / "map.png", LABELS | {"file_ending": ".png"})


@pytest.mark.parametrize("spacing", [0.0, float("nan")])
def test_a_grid_without_spacing_is_named(monkeypatch, tmp_path, spacing):
    geometry = {"size": GRID.shape, "spacing": (1.0, spacing, 1.0)}
    monkeypatch.setattr(module, "read_image", lambda *arguments, is_label: (GRID[None], geometry))
    with pytest.raises(XModalError, match=r"map.nii.gz has the spacing .*correct its header"):
        read_label_map(tmp_path / "map.nii.gz", LABELS)


def test_scaled_and_negative_labels_are_read_as_meant(tmp_path):
    """Some tools write masks as 255 with a slope of 1/255, which in single precision is not quite 1."""
    labels = np.arange(24).reshape(GRID.shape) % 3
    image = nibabel.Nifti1Image((255 * labels).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(1 / 255, 0)
    nibabel.save(image, tmp_path / "map.nii.gz")
    stored = np.asanyarray(nibabel.load(tmp_path / "map.nii.gz").dataobj)
    assert stored.dtype.kind == "f" and (stored != np.rint(stored)).any()
    array, _ = read_label_map(tmp_path / "map.nii.gz", LABELS)
    assert array.dtype == np.uint8 and (array == labels.T).all()
    nibabel.save(nibabel.Nifti1Image((-labels).astype(np.int16), np.eye(4)), tmp_path / "map.nii.gz")
    array, _ = read_label_map(tmp_path / "map.nii.gz", LABELS | {"labels": {"background": 0, "a": -1, "b": -2}})
    assert (array == -labels.T).all()


def test_a_missing_reference_is_named(results, table_of):
    results.add("A", shift=1)
    (results.references / "c_1.nii.gz").unlink()
    with pytest.raises(XModalError, match="c_1.nii.gz is missing: it is the reference of"):
        table_of("A")


def test_the_order_of_regions_is_another_result(tmp_path):
    """Probabilities lie in the order of the regions in dataset.json."""
    cache = CaseCache(tmp_path)
    labels = {"whole": [1, 2], "core": [2]}
    assert cache.file([], labels) != cache.file([], dict(reversed(labels.items())))
