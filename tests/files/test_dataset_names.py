"""Numbers of datasets: one name, none, or two."""

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_names import dataset_name


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    return tmp_path


@pytest.mark.parametrize("place", ["raw", "preprocessed", "results"])
def test_one_dataset(folders, place):
    (folders / place / "Dataset007_Tiny").mkdir()
    assert dataset_name("7") == dataset_name(7) == dataset_name("007") == "Dataset007_Tiny"


@pytest.mark.parametrize("places", [("raw", "raw"), ("raw", "results"), ("preprocessed", "results")])
def test_two_datasets_are_both_named(folders, places):
    for place, name in zip(places, ("Dataset007_One", "Dataset007_Two")):
        (folders / place / name).mkdir()
    with pytest.raises(XModalError) as caught:
        dataset_name("7")
    assert all(str(folders / p / n) in str(caught.value) for p, n in zip(places, ("Dataset007_One", "Dataset007_Two")))
    assert str(caught.value).endswith("-d Dataset007_One.")
    with pytest.raises(XModalError, match="all but one[.]$"):
        dataset_name(7, takes_names=False)
    assert dataset_name("Dataset007_Two") == "Dataset007_Two"


def test_no_dataset(folders):
    with pytest.raises(XModalError, match=f"ID 7 in {folders / 'raw'}, .*: check"):
        dataset_name("7")


@pytest.mark.parametrize("word", ["Tiny", "-7", "7.0", ""])
def test_a_word_is_no_dataset(folders, word):
    with pytest.raises(XModalError, match="its number, or its full name"):
        dataset_name(word)
