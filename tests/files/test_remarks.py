"""Remarks are made at once, and once more at the end."""

import pytest

from nnunet_xmodal.files.remarks import remark, repeated_remarks


def test_remarks_come_again_at_the_end(capsys):
    remark("of another command")
    with repeated_remarks():
        remark("one")
        remark("two")
        remark("one")
        assert capsys.readouterr().err.splitlines()[-1] == "remark: one"
    assert capsys.readouterr().err.splitlines() == ["remark, again: one", "remark, again: two"]


def test_an_error_is_the_last_word(capsys):
    with pytest.raises(ValueError), repeated_remarks():
        remark("one")
        raise ValueError
    assert "again" not in capsys.readouterr().err
