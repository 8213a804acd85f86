"""Inversions on disk: made once, of these very data, and whole."""

from pathlib import Path

import numpy as np
import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.field_inputs import FieldInputs
from nnunet_xmodal.physics.measured_field import FieldGeometry
from nnunet_xmodal.tasks.reconstruction.inversion_files import InversionFiles

SIZE, GEOMETRY = (8, 9, 7), FieldGeometry((2.0, 1.0, 1.5), (0.36, 0.48, 0.8))
INPUTS = FieldInputs(iterations=3)


class OnDisk:
    """Two cases whose preprocessed files hold what tells them apart."""

    def __init__(self, folder):
        folder.mkdir()
        self.source_folder, self.identifiers, self.loaded = str(folder), ["a", "b"], []
        for case in self.identifiers:
            (folder / f"{case}.b2nd").write_text(case)

    def load_case(self, case):
        self.loaded.append(case)
        data = 12.77 * np.random.default_rng(ord(case)).standard_normal((2, *SIZE)).astype(np.float32)
        return data, np.ones((1, *SIZE), np.int16), None, {}


@pytest.fixture
def dataset(tmp_path):
    return OnDisk(tmp_path / "plans_3d_fullres")


def files(dataset, geometry=GEOMETRY, inputs=INPUTS, one_ppm=1277.0, cases=("a", "b")):
    made = InversionFiles(inputs, one_ppm)
    geometries = dict.fromkeys(dataset.identifiers, geometry)
    made.find(dataset, geometries)
    made.make(dataset, cases, geometries, lambda line: None)
    return made


def test_they_are_those_of_the_field_in_ppm_beside_nnunets_folder(dataset, tmp_path):
    made = files(dataset)
    for case in "ab":
        field = dataset.load_case(case)[0][0] / 1277.0
        np.testing.assert_allclose(made[case], INPUTS.of_field(field, GEOMETRY), atol=1e-7)
    names = [path.name for path in (tmp_path / "plans_3d_fullres_inversions").iterdir()]
    assert sorted(name.split(".")[0] for name in names) == ["a", "b"]
    assert sorted(path.name for path in (tmp_path / "plans_3d_fullres").iterdir()) == ["a.b2nd", "b.b2nd"]


def test_what_is_there_is_not_made_again_unless_something_else_is_asked_for(dataset):
    files(dataset)
    dataset.loaded.clear()
    files(dataset)
    assert dataset.loaded == []
    for changed in (
        {"geometry": GEOMETRY._replace(direction=(1.0, 0.0, 0.0))},
        {"inputs": FieldInputs(alphas=(1e-3,), iterations=3)},
        {"one_ppm": 1.0},
    ):
        dataset.loaded.clear()
        files(dataset, **changed)
        assert dataset.loaded == ["a", "b"]
    Path(dataset.source_folder, "a.b2nd").write_text("preprocessed anew")
    dataset.loaded.clear()
    files(dataset)
    assert dataset.loaded == ["a"]


def test_what_is_cut_off_is_made_again_and_ranks_make_their_share(dataset):
    made = files(dataset, cases=("b",))
    assert not made.files["a"].exists() and made.files["b"].exists()
    whole = made.files["b"].read_bytes()
    made.files["b"].write_bytes(whole[: len(whole) // 2])
    dataset.loaded.clear()
    again = files(dataset)
    assert dataset.loaded == ["a", "b"] and again.files["b"].read_bytes() == whole


def test_a_field_with_nan_names_the_case(dataset, monkeypatch):
    monkeypatch.setattr(dataset, "load_case", lambda case: (np.full((2, *SIZE), np.nan, np.float32), None, None, {}))
    with pytest.raises(XModalError, match="the field of the preprocessed case a holds NaN or infinite voxels"):
        files(dataset)
