"""The words of nnUNetXModal_prepare."""

import pytest

from nnunet_xmodal.commands.argument_types import with_negative_pairs
from nnunet_xmodal.commands.prepare import parser
from nnunet_xmodal.preparation.label_maps import parse_map


def test_help_names_the_recipes():
    assert "brats, brats2023, chaos, muregpro" in " ".join(parser().format_help().split())


@pytest.mark.parametrize(
    "words, mapped",
    [
        (["--map", "-1:0"], {-1: 0}),
        (["--map=-1:0"], {-1: 0}),
        (["--map", "1:2", "-1:0", "-1000:0", "--overwrite"], {1: 2, -1: 0, -1000: 0}),
        (["--map", "-2:1", "-1:0"], {-2: 1, -1: 0}),
    ],
)
def test_values_below_zero_are_mapped(words, mapped):
    args = parser().parse_args(with_negative_pairs(["-i", "scans", "-o", "Dataset510_A", *words]))
    assert parse_map(args.map) == mapped


def test_other_words_stay():
    words = ["-i", "a:b", "--map", "1:0", "-1", "-np", "1"]
    assert with_negative_pairs(words) == words
