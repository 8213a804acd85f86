import pytest

from nnunet_xmodal.datasets.streams import (
    channel_names_of,
    describe_streams,
    distinct_channel_names,
    parse_streams,
    streams_from_command_line,
    streams_of,
)
from nnunet_xmodal.errors import XModalError

NAMES = ["T1", "T1c", "T2", "FLAIR"]
KNOWN = "known are 0 (T1), 1 (T1c), 2 (T2), 3 (FLAIR)"


@pytest.mark.parametrize(
    "streams",
    [
        [["T1", "T1c"], ["T2", "FLAIR"]],
        [[0, 1], [2, 3]],
        [["0", "1"], ["2", "3"]],
        [["T1", 1], ("2", "FLAIR")],
    ],
)
def test_names_and_numbers_mean_the_same(streams):
    assert parse_streams(streams, NAMES) == [[0, 1], [2, 3]]


def test_order_of_streams_and_of_channels_is_kept():
    assert parse_streams([["FLAIR", "T1"], ["T2"], ["T1c"]], NAMES) == [[3, 0], [2], [1]]


def test_a_name_wins_over_a_number():
    assert parse_streams([["1"], ["0"]], ["1", "0"]) == [[0], [1]]


@pytest.mark.parametrize(
    "streams, message",
    [
        ([["T1", "T1c"], ["T2", "PD"]], f"a stream names the unknown channel 'PD'; {KNOWN}."),
        ([["T1", "T1c"], ["T2", "FLAIR"], [4]], f"a stream names the unknown channel 4; {KNOWN}."),
        ([["T1", "T1c"], ["T2", -1]], f"a stream names the unknown channel -1; {KNOWN}."),
        ([["T1", "T1c"], ["T2", None]], f"a stream names the unknown channel None; {KNOWN}."),
        ([["T1", "T1c"], ["T2"]], "name channel 3 (FLAIR) in none of them; every channel belongs to exactly one"),
        ([["T1", "T1c"], ["T2", "FLAIR", 0]], "name channel 0 (T1) twice; every channel belongs to exactly one"),
        ([["T1", "T1"], ["T1c", "T2", "FLAIR"]], "name channel 0 (T1) twice"),
        ([], "name channel 0 (T1) in none of them"),
        ([NAMES, []], f"hold [], which is not a list of channels; {KNOWN}."),
        (["T1", "T1c", "T2", "FLAIR"], f"hold 'T1', which is not a list of channels; {KNOWN}."),
        ([1, 0, 2, 3], f"hold 1, which is not a list of channels; {KNOWN}."),
        (None, "None"),
    ],
)
def test_wrong_streams_are_named(streams, message):
    with pytest.raises(XModalError) as error:
        parse_streams(streams, NAMES)
    assert message in str(error.value)


def test_an_ambiguous_name_asks_for_numbers():
    with pytest.raises(XModalError) as error:
        parse_streams([["MR"], [1]], ["MR", "MR"])
    assert str(error.value) == "the channel name 'MR' is not unique; use channel numbers: 0 (MR), 1 (MR)."
    assert parse_streams([[0], [1]], ["MR", "MR"]) == [[0], [1]]


def test_command_line():
    assert streams_from_command_line(["T1+T1c", "T2+FLAIR"], NAMES) == [[0, 1], [2, 3]]
    assert streams_from_command_line(["3+0", "T2", "1"], NAMES) == [[3, 0], [2], [1]]
    assert streams_from_command_line(["T1+Gd", "T2"], ["T1+Gd", "T2"]) == [[0], [1]]


@pytest.mark.parametrize("word, unknown", [("T1+", "''"), ("T1++T1c", "''"), ("T1,T1c", "'T1,T1c'"), ("", "''")])
def test_command_line_with_an_unknown_channel(word, unknown):
    with pytest.raises(XModalError, match=f"unknown channel {unknown}"):
        streams_from_command_line([word, "T2+FLAIR"], NAMES)


def plans_with(streams):
    return {
        "foreground_intensity_properties_per_channel": dict.fromkeys("0123"),
        **({} if streams is None else {"xmodal": {"streams": streams}}),
    }


def dataset_json_with(streams):
    dataset_json = {"channel_names": {str(index): name for index, name in enumerate(NAMES)}}
    return dataset_json if streams is None else {**dataset_json, "xmodal": {"streams": streams}}


A, B, C = [["T1"], ["T1c", "T2", "FLAIR"]], [[0, 1], [2, 3]], [["T1", "T1c", "T2", "FLAIR"]]


@pytest.mark.parametrize(
    "architecture, plans, dataset_json, expected",
    [
        (A, B, C, [[0], [1, 2, 3]]),
        (None, B, C, [[0, 1], [2, 3]]),
        (None, None, C, [[0, 1, 2, 3]]),
        (None, None, None, [[0], [1], [2], [3]]),
    ],
)
def test_architecture_then_plans_then_dataset_json_then_one_stream_per_channel(
    architecture, plans, dataset_json, expected
):
    architecture = {"arch_kwargs": {} if architecture is None else {"streams": architecture}}
    assert streams_of(plans_with(plans), architecture, dataset_json_with(dataset_json)) == expected


def test_without_dataset_json_numbers_suffice():
    assert streams_of(plans_with(B), {}, None) == [[0, 1], [2, 3]]
    assert streams_of(plans_with(None), {}, None) == [[0], [1], [2], [3]]


def test_other_number_of_channels_than_planned():
    two_channels = {"channel_names": {"0": "T1", "1": "T2"}}
    with pytest.raises(XModalError, match=r"names 2 channels \(T1, T2\) but the plans were made for 4: plan"):
        streams_of(plans_with(None), {}, two_channels)


def test_channel_names_come_in_the_order_of_their_numbers():
    names = {str(index): f"channel {index}" for index in reversed(range(11))}
    assert channel_names_of({"channel_names": names}) == [f"channel {index}" for index in range(11)]
    assert channel_names_of({"modality": {"0": "CT"}}) == ["CT"]


@pytest.mark.parametrize("dataset_json", [{}, {"channel_names": {}}])
def test_no_channel_names(dataset_json):
    with pytest.raises(XModalError, match='dataset.json has no "channel_names"; add for example'):
        channel_names_of(dataset_json)


def test_channel_numbers_that_do_not_count_from_zero():
    with pytest.raises(XModalError, match="1, 2"):
        channel_names_of({"channel_names": {"1": "T1", "2": "T2"}})


def test_description_reads_as_the_command_line():
    assert describe_streams([[0, 1], [2, 3]], NAMES) == "T1+T1c | T2+FLAIR"


def test_channels_of_one_name_are_told_apart():
    names = {"channel_names": {"0": "CT", "1": "PET", "2": "CT"}}
    assert distinct_channel_names(names) == ["CT (0)", "PET", "CT (2)"]
    assert channel_names_of(names) == ["CT", "PET", "CT"]
