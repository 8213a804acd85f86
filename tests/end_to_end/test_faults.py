"""Commands that are killed or run out of disk lose nothing, leave nothing, and go on to the same result.

`benchmarks/experiments/kills.py` does the same hundreds of times.
"""

import random
import sys
from datetime import date

import pytest
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
def base(make_workspace, shrink):
    space = make_workspace("faults")
    make_base(space, shrink)
    return space


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_lost_wrong_or_left_behind(base, tmp_path, name):
    (target,) = [target for target in targets(base.root) if target.name == name]
    trials = Trials(target, base, tmp_path)
    fixed, dated = random.Random(f"{name} 0"), random.Random(f"{name} {TODAY}")
    print(f"seeds of {name}: 0 and {TODAY}")  # shown where a trial fails
    outcomes: list[Outcome] = [trials.killed_after(dated.uniform(0.1, trials.seconds))]
    if target.seconds is None:
        outcomes += _watched(trials, fixed, dated)
    assert all(outcome.is_good for outcome in outcomes), outcomes


def _watched(trials: Trials, fixed: random.Random, dated: random.Random) -> list[Outcome]:
    return [
        trials.killed("kill", fixed.choice(trials.first_sights())),
        trials.killed(dated.choice(("kill", "main", "term")), dated.choice(trials.first_sights())),
        trials.full(fixed.randrange(trials.largest)),
    ]


def test_every_target_is_tried(base):
    assert tuple(target.name for target in targets(base.root)) == NAMES
