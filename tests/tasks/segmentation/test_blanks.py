"""Folders whose paths have blanks, as on many a machine with Windows: model, scans, output and archive."""

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.export import main as export
from nnunet_xmodal.commands.predict import main


@pytest.fixture
def tmp_path(tmp_path):
    folder = tmp_path / "my data (2)" / "of  May"
    folder.mkdir(parents=True)
    return folder


def test_prediction_by_folder_by_name_and_from_an_archive(tmp_path, make_model, scans):
    named = make_model()
    scans(cases=("anna",))
    (tmp_path / "in").rename(tmp_path / "the scans")
    archive = tmp_path / "the model.zip"
    model = [word for word in named if word not in ("-device", "cpu", "--disable_progress_bar")]
    export([*map(str, model), "-o", str(archive)])
    how = {"by name": model, "by folder": ["-m", tmp_path / "nnUNet_results"], "archive": ["-m", archive]}
    made = []
    for output, words in how.items():
        words = [*words, "-i", tmp_path / "the scans", "-o", tmp_path / output, "-npp", 0, "-nps", 0]
        main([*map(str, words), "-device", "cpu", "-step_size", "1", "--disable_tta", "--disable_progress_bar"])
        assert not [path for path in (tmp_path / output).iterdir() if path.name.startswith(".")]
        made.append(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / output / "anna.nii.gz"))))
    assert len(np.unique(made[0])) > 1
    assert all(np.array_equal(label_map, made[0]) for label_map in made)


def test_scans_as_they_come(tmp_path, make_model, scans):
    make_model()
    scans(cases=("anna",))
    (tmp_path / "in").rename(tmp_path / "in anna")
    table = tmp_path / "the scans.csv"
    rows = [f"a b,{channel},in anna/anna_000{number}.nii.gz" for number, channel in enumerate(("T1", "T1c"))]
    table.write_text("\n".join(["case,channel,file", *rows]))
    words = ["--scans", table, "-m", tmp_path / "nnUNet_results", "-o", tmp_path / "out of it", "-npp", 0, "-nps", 0]
    main([*map(str, words), "-device", "cpu", "-step_size", "1", "--disable_tta", "--disable_progress_bar"])
    assert [path.name for path in (tmp_path / "out of it").glob("*.nii.gz")] == ["a_b.nii.gz"]
