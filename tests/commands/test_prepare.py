"""The words of nnUNetXModal_prepare."""

from nnunet_xmodal.commands.prepare import parser


def test_help_names_the_recipes():
    assert "brats, brats2023, chaos, muregpro" in " ".join(parser().format_help().split())
