"""Which files the demo predicts in the end: such as there are."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from nnunet_xmodal.demo.new_cases import new_cases

RGB = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "cell": 1}, "file_ending": ".png"}


@pytest.mark.parametrize("split, folds", [("Ts", [0, 1, 2]), ("Tr", [0])])
def test_a_picture_holds_all_of_its_channels(tmp_path, split, folds):
    for folder, shape in ((f"images{split}", (4, 4, 3)), (f"labels{split}", (4, 4))):
        (tmp_path / folder).mkdir()
        for case in "abc":
            name = f"{case}_0000.png" if folder.startswith("images") else f"{case}.png"
            Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / folder / name)
    dataset_json = RGB | {"numTraining": 3}
    demo = SimpleNamespace(raw=tmp_path, dataset_json=dataset_json, folds=3, cases=2, validation_cases=lambda _: "bc")
    cases, of_folds = new_cases(demo)
    assert [case.name for case in cases] == (["a", "b"] if split == "Ts" else ["b", "c"]) and of_folds == folds
    for case in cases:
        assert case.images == [str(tmp_path / f"images{split}" / f"{case.name}_0000.png")]
        assert case.label == tmp_path / f"labels{split}" / f"{case.name}.png"
