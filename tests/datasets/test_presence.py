"""What cases lack: on disk and in words."""

import json

import pytest

from nnunet_xmodal.datasets.presence import (
    MISSING_FILE,
    named,
    pattern_of,
    patterns_of,
    present_streams,
    read_missing,
    write_missing,
)
from nnunet_xmodal.errors import XModalError


def test_a_stream_without_one_of_its_channels_is_absent():
    assert present_streams([1, 4], [[0, 1], [2], [4], [3]]) == [False, True, False, True]
    assert present_streams([], [[0, 1], [2]]) == [True, True]


def test_in_words():
    assert named([2], ["T1", "T1c", "T2"]) == "T2" and named([0, 1, 2], ["T1", "T1c", "T2"]) == "T1, T1c and T2"
    assert pattern_of(["T1c", "FLAIR"]) == "no T1c+FLAIR"
    assert patterns_of(["b", "a"], {"a": ["ADC"]}) == {"b": "complete", "a": "no ADC"}


def test_the_file_is_there_where_something_lacks(tmp_path):
    assert read_missing(tmp_path) == {}
    write_missing({"b": ["ADC"], "a": ["T2W"]}, tmp_path)
    assert read_missing(tmp_path) == {"a": ["T2W"], "b": ["ADC"]} and list(read_missing(tmp_path)) == ["a", "b"]
    write_missing({}, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("content", [["a"], {"a": "T2W"}, {"a": [1]}])
def test_a_file_that_says_something_else(tmp_path, content):
    (tmp_path / MISSING_FILE).write_text(json.dumps(content))
    with pytest.raises(XModalError, match="does not name the channels that each case lacks"):
        read_missing(tmp_path)
