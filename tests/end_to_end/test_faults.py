"""Commands that are killed or run out of disk lose nothing, leave nothing, and go on to the same result.

`benchmarks/experiments/kills.py` does the same hundreds of times.
"""

import random
import sys
from datetime import date
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # where kills.py finds the same modules
from fault_targets import make_base, targets
from fault_trials import Outcome, Trials

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are looked for in /proc"),
]

NAMES = (
    "prepare",
    "plan",
    "predict",
    "predict, one process",
    "register",
    "reconstruct",
    "compare",
    "train",
    "crossval",
)
TODAY = int(f"{date.today():%Y%m%d}")


@pytest.fixture(scope="module")
def base(make_workspace, shrink, narrow):
    space = make_workspace("faults")
    make_base(space, shrink, narrow)
    return space


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_wrong_or_left_behind(base, tmp_path, name):
    (target,) = [target for target in targets(base.root) if target.name == name]
    trials = Trials(target, base, tmp_path)
    fixed, dated = random.Random(f"{name} 0"), random.Random(f"{name} {TODAY}")
    print(f"seeds of {name}: 0 and {TODAY}")  # shown where a trial fails
    outcomes: list[Outcome] = []
    if target.seconds is None:
        outcomes.append(trials.killed("kill", fixed.choice(trials.first_sights())))
        outcomes.append(trials.full(fixed.randrange(trials.largest)))
    fault = dated.choice(("kill", "main", "term", "time"))
    if target.seconds is not None or fault == "time":
        outcomes.append(trials.killed_after(dated.uniform(0.1, trials.seconds)))
    else:
        outcomes.append(trials.killed(fault, dated.randrange(len(trials.moments))))
    assert all(outcome.is_good for outcome in outcomes), outcomes


def test_every_target_is_tried(base):
    assert tuple(target.name for target in targets(base.root)) == NAMES
