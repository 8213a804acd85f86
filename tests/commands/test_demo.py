"""Mistakes that `nnUNetXModal_demo` answers with one sentence, before it trains."""

import json

import pytest

from nnunet_xmodal.commands.demo import main

VARIABLES = ("raw", "preprocessed", "results", "def_n_proc", "n_proc_DA", "compile", "extTrainer")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What the demo sets is as before afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(f"nnUNet_{name}", "")


@pytest.fixture
def sentence(capsys):
    def of(*arguments) -> str:
        with pytest.raises(SystemExit) as end:
            main([str(argument) for argument in arguments])
        assert end.value.code == 2
        said = capsys.readouterr().err
        assert len(said.splitlines()) == 1
        return said

    return of


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--trainers", "nnUNetTrainerCSADD"), "names nnUNetTrainerCSADD, which is unknown"),
        (("--trainers", "nnUNetTrainer", "nnUNetTrainer"), "names nnUNetTrainer twice"),
        (("--folds", "6"), "--folds is 6"),
        (("--processes", "0"), "--processes is 0"),
        (("--phantoms", "4"), "--phantoms is 4, but five folds need at least 5"),
        (("--seed", "-1"), "--seed is -1"),
    ],
)
def test_values_that_make_no_sense(sentence, tmp_path, arguments, expected):
    assert expected in sentence("--folder", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


def test_a_dataset_without_dataset_json(sentence, tmp_path):
    assert "holds no dataset.json" in sentence("--folder", tmp_path / "new", "--dataset", tmp_path)
    assert not (tmp_path / "new").exists()


def test_a_folder_of_something_else(sentence, tmp_path):
    (tmp_path / "thesis.tex").touch()
    assert "exists and is no folder of this demo: take another --folder" in sentence("--folder", tmp_path)


@pytest.mark.parametrize("content", [{}, [], {"name": "my own"}])
def test_a_folder_with_a_demo_of_something_else(sentence, tmp_path, content):
    (tmp_path / "demo.json").write_text(json.dumps(content))
    assert "demo.json is of no demo: take another --folder" in sentence("--folder", tmp_path)


def test_a_folder_of_other_phantoms(sentence, tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps({"data": "20 prostate phantoms of seed 0"}))
    expected = (
        "holds a demo on 20 prostate phantoms of seed 0, but this one is to run on 20 prostate phantoms of seed 1"
    )
    assert expected in sentence("--folder", tmp_path, "--seed", "1")


def test_a_configuration_that_was_not_planned(sentence, tmp_path):
    plans = tmp_path / "nnUNet_preprocessed" / "Dataset950_ProstatePhantom" / "nnUNetPlans.json"
    plans.parent.mkdir(parents=True)
    plans.write_text(json.dumps({"configurations": {"2d": {}, "2d_b2_f16": {"inherits_from": "2d"}}}))
    (tmp_path / "demo.json").write_text(json.dumps({"data": "5 prostate phantoms of seed 0"}))
    said = sentence("--folder", tmp_path, "--phantoms", "5", "--cases", "1", "--configuration", "4d")
    assert "--configuration 4d is not in nnU-Net's plans" in said and "take one of 2d." in said
