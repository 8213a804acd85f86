import pandas as pd

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
