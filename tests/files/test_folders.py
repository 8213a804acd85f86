"""A file in the place of a folder is a sentence of every command, before anything is written."""

import pytest

from nnunet_xmodal.commands import compare, demo, paste, prepare
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.folders import check_apart, check_input_folder, check_output_folder
from nnunet_xmodal.prediction.request import PredictionRequest


@pytest.fixture
def file(tmp_path):
    """A file of the user's, which stays as it is."""
    file = tmp_path / "mine"
    file.write_text("mine")
    yield file
    assert file.read_text() == "mine"


@pytest.fixture
def refused(capsys):
    """`(main, *words)` → the sentence with which a command ends."""

    def refused(main, *words) -> str:
        with pytest.raises(SystemExit) as status:
            main([str(word) for word in words])
        assert status.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and len(error.splitlines()) == 1
        return error

    return refused


def test_folders_that_are_there_or_can_be_made(tmp_path):
    check_input_folder(tmp_path)
    for folder in (tmp_path, tmp_path / "a", tmp_path / "a" / "b", "relative/to/here"):
        check_output_folder(folder)
    assert not list(tmp_path.iterdir())


def test_files(file, tmp_path):
    with pytest.raises(XModalError, match="mine is a file, but a folder is read: give the one that it lies in"):
        check_input_folder(file)
    with pytest.raises(XModalError, match="absent does not exist"):
        check_input_folder(tmp_path / "absent")
    for folder in (file, file / "a", file / "a" / "b"):
        with pytest.raises(XModalError, match="--out .*mine is a file, but a folder is written"):
            check_output_folder(folder, "--out")
    (tmp_path / "broken").symlink_to(tmp_path / "absent")
    with pytest.raises(XModalError, match="broken"):
        check_output_folder(tmp_path / "broken" / "a")


def test_results_are_not_written_among_the_images(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "also").symlink_to(tmp_path / "in")
    for output in (tmp_path / "in", tmp_path / "also", tmp_path / "in" / ".." / "in"):
        with pytest.raises(XModalError, match="is the folder that -i reads, among whose files results would lie"):
            check_apart(output, {"-i": tmp_path / "in"})
    for output in (tmp_path / "in" / "out", tmp_path):
        check_apart(output, {"-i": tmp_path / "in", "--init": "geometry"})


def test_results_are_not_written_among_what_flags_name_or_a_datasets_labels(tmp_path):
    (tmp_path / "support" / "labelsTr").mkdir(parents=True)
    options = {"support": str(tmp_path / "support"), "match": "best", "init": "geometry"}
    request = PredictionRequest(
        tmp_path / "in", tmp_path / "out", 1, "2d", previous_stage=tmp_path / "lowres", options=options
    )
    assert list(request.folders_read) == ["-i", "-prev_stage_predictions", "--support"]
    check_apart(request.output, request.folders_read)
    for output in (tmp_path / "support", tmp_path / "support" / "labelsTr"):
        with pytest.raises(XModalError, match="is the folder that --support reads"):
            check_apart(output, request.folders_read)


def test_prepare(file, tmp_path, nnunet_folders, refused):
    usual = ("-o", "Dataset510_A", "--channels", "T2W=t2w*", "-np", 1)
    assert "mine is a file" in refused(prepare.main, "-i", file, *usual)
    (nnunet_folders / "nnUNet_raw" / "Dataset510_A").write_text("mine")
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "t2w.nii.gz").touch()
    assert "Dataset510_A is a file" in refused(prepare.main, "-i", tmp_path / "scans", *usual)


def test_paste(file, tmp_path, nnunet_folders, refused, monkeypatch):
    (nnunet_folders / "nnUNet_raw" / "Dataset510_A").mkdir()
    monkeypatch.setattr("nnunet_xmodal.preparation.paste.read_records", lambda folder: {"a": None})
    assert "mine is a file" in refused(paste.main, "-i", file, "-o", tmp_path / "out", "-d", "Dataset510_A")
    assert "mine is a file" in refused(paste.main, "-i", tmp_path, "-o", file, "-d", "Dataset510_A")


def test_compare(file, tmp_path, refused):
    (tmp_path / "predictions").mkdir()
    (tmp_path / "dataset.json").write_text('{"labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}')
    given = ("--folders", tmp_path / "predictions", "--gt", tmp_path, "--dataset_json", tmp_path / "dataset.json")
    for output in (file, file / "below"):
        assert "it is a file" in refused(compare.main, "-o", output, *given)
    assert "mine is a file" in refused(compare.main, "-o", tmp_path / "out", "--folders", file, *given[2:])
    assert not (tmp_path / "out").exists()


def test_demo(file, refused):
    for folder in (file, file / "below"):
        assert "mine is a file" in refused(demo.main, "--folder", folder, "--device", "cpu")
