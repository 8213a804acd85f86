"""Numbers of a request that make no sense are said by the flag that holds them, before anything is read."""

import pytest

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError


def request(*words):
    return request_of(parser().parse_args(["-i", "in", "-o", "out", "-d", "1", "-c", "2d", *map(str, words)]))


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["-step_size", 0], "-step_size 0 is no share of a patch"),
        (["-step_size", 2], "-step_size 2 is no share of a patch"),
        (["-step_size", "nan"], "-step_size nan is no share of a patch"),
        (["-npp", -1], "-npp -1 is too few: give 0 or more"),
        (["-nps", -2], "-nps -2 is too few: give 0 or more"),
        (["-num_parts", 0], "-num_parts 0 is too few: give 1 or more"),
    ],
)
def test_numbers_without_sense_are_refused(words, sentence):
    with pytest.raises(XModalError, match=sentence):
        request(*words)


@pytest.mark.parametrize("words", [["-npp", 0, "-nps", 0], ["-npp", 0], ["-nps", 0], ["--max_memory", 4]])
def test_no_process_of_one_kind_is_this_process_alone(words):
    """nnU-Net asserts where there are some of the other kind."""
    made = request(*words)
    assert (made.preprocessing_processes, made.export_processes) == (0, 0)


def test_processes_are_as_many_as_are_asked_for():
    made = request("-npp", 2, "-nps", 5)
    assert (made.preprocessing_processes, made.export_processes) == (2, 5)
