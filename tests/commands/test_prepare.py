"""The words of nnUNetXModal_prepare."""

from dataclasses import fields

from nnunet_xmodal.commands.prepare import parser
from nnunet_xmodal.preparation.request import PreparationWords


def test_every_flag_arrives(monkeypatch):
    monkeypatch.setenv("nnUNet_def_n_proc", "3")
    args = vars(parser().parse_args(["-i", "scans", "-o", "Dataset510_A"]))
    assert set(args) == {field.name for field in fields(PreparationWords)}
    words = PreparationWords(**args)
    assert words.processes == 3
    assert words == PreparationWords(words.input, "Dataset510_A", processes=3)


def test_help_names_the_recipes():
    assert "brats, brats2023, chaos, muregpro" in " ".join(parser().format_help().split())
