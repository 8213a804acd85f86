import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_xmodal.comparison.cross_validation import read_model
from nnunet_xmodal.comparison.overlays import most_different, overlays


def scores(**dice) -> pd.DataFrame:
    """`case = (Dice of A, Dice of B)`."""
    rows = [(case, model, value) for case, pair in dice.items() for model, value in zip("AB", pair)]
    return pd.DataFrame(rows, columns=["case", "model", "Dice"])


def test_cases_are_sorted_by_how_much_models_differ():
    table = scores(alike=(0.5, 0.5), close=(0.6, 0.5), apart=(0.1, 0.9), undefined=(float("nan"), 0.5))
    assert [case for case, _ in most_different(table, 5)] == ["apart", "close"]
    assert [case for case, _ in most_different(table, 1)] == ["apart"]


def test_an_overlay_is_a_png_with_or_without_the_image(results):
    models = [read_model(name, results.add(name, shift), [0, 1, 2]) for name, shift in (("A", 0), ("B", 4))]
    table = scores(a_1=(1.0, 0.2), b_1=(1.0, 0.4))
    for images in (results.images, None):
        first, second = overlays(models, table, results.references, images, 2)
        assert first.png.startswith(b"\x89PNG") and second.png.startswith(b"\x89PNG")
        assert first.caption.startswith("a_1, fold 0, slice ") and "differs by 80.0 points" in first.caption


def test_what_the_reference_ignores_is_not_drawn_and_not_measured(results):
    dataset_json = {**results.dataset_json, "labels": {**results.dataset_json["labels"], "ignore": 3}}
    model = read_model("A", results.add("A", 0, dataset_json=dataset_json), [0, 1, 2])
    reference = results.references / "a_1.nii.gz"
    array = sitk.GetArrayFromImage(sitk.ReadImage(str(reference)))
    array[:, :12] = 3
    image = sitk.GetImageFromArray(array)
    image.CopyInformation(sitk.ReadImage(str(reference)))
    sitk.WriteImage(image, str(reference))
    drawn = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nnunet_xmodal.comparison.overlays.draw_cases", lambda panels, file: drawn.extend(panels))
        overlays([model], scores(a_1=(1.0, 0.2)), results.references, None, 1)
    (panels,) = drawn
    assert panels.dice == {"A": 1.0} and not panels.truth[:12].any() and not panels.predictions["A"][:12].any()
