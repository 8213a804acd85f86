import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.parallel import run_all


def fault_of(number: int) -> str | None:
    return f"{number} is odd." if number % 2 else None


def test_faults_are_counted_when_all_have_been_looked_at():
    run_all(fault_of, [0, 2], 1, "Looking")
    with pytest.raises(XModalError, match=r"^1 is odd. \(2 other cases have faults, too.\)$"):
        run_all(fault_of, [5, 3, 2, 1], 1, "Looking")
