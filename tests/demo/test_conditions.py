"""What new cases lack."""

from nnunet_xmodal.demo.conditions import conditions_of


def test_complete_and_without_each_stream():
    conditions = conditions_of([[0, 1], [2]], ["T1", "T1c", "FLAIR"])
    assert [str(condition) for condition in conditions] == ["complete", "without T1+T1c", "without FLAIR"]
    assert [condition.missing for condition in conditions] == [(), (0, 1), (2,)]


def test_a_single_stream_is_never_missing():
    assert [str(condition) for condition in conditions_of([[0, 1]], ["T1", "T2"])] == ["complete"]
