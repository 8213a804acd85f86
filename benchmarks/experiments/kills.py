"""Kills commands and fills disks, hundreds of times, and counts what is lost, wrong or left behind.

    python benchmarks/experiments/kills.py FOLDER --kills 300 --disks 200

Every trial is one line in FOLDER/outcomes.jsonl; a second call goes on. The table for
documentation/results/reliability.md is printed at the end, and by --table alone. Half of the disks are real ones
(tmpfs, for root on Linux), or none where that cannot be mounted; the others are limits on the size of a file. See
tests/end_to_end/fault_trials.py.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `run` imports them from the folder that joins the path below
    from fault_trials import Outcome, Trials

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "end_to_end"))

_KILLS = ("kill", "main", "worker", "term", "int", "ints", "time")
_TOLD = ("worker", "term", "int", "ints", "full", "disk")  # after which a command can still say something
_SPARE = 1 << 16  # bytes of a disk that folders and the smallest files need


def main() -> None:
    """Run the benchmark; see the module."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=Path)
    p.add_argument("--kills", type=int, default=300)
    p.add_argument("--disks", type=int, default=200)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--seconds", type=float, default=float("inf"), help="no new trial begins after that")
    p.add_argument("--targets", nargs="+", help="names, see fault_targets.py (default: all)")
    p.add_argument("--table", action="store_true", help="print the table of earlier trials and end")
    args = p.parse_args()
    if not args.table:
        run(args)
    print(table(read(args.folder)))


def run(args: argparse.Namespace) -> None:
    """Run the trials that are missing, and note the outcome of each."""
    from conftest import Workspace, narrow, shrink
    from fault_targets import make_base, targets
    from fault_trials import Trials

    end = time.monotonic() + args.seconds
    args.folder.mkdir(parents=True, exist_ok=True)
    space, made = Workspace(args.folder), args.folder / "made"
    if not made.exists():
        make_base(space, shrink, narrow)
        made.touch()
    chosen = [one for one in targets(args.folder) if not args.targets or one.name in args.targets]
    trials = [Trials(one, space, args.folder / f"trials{time.time_ns()}") for one in chosen]
    mountable = True
    done = read(args.folder)
    for number in range(len(done), args.kills + args.disks):
        if time.monotonic() > end:
            break
        rng = random.Random(args.seed * 1_000_003 + number)
        one = trials[number % len(trials)]
        kills = sum(outcome["fault"] in _KILLS for outcome in done)
        if one.target.seconds is not None:
            outcome = one.killed_after(rng.uniform(0.05, one.seconds), rng.choice(("time", "main", "term", "int")))
        elif kills < args.kills and (number // len(trials)) % 5 < 3 or len(done) - kills >= args.disks:
            outcome = killed(one, rng)
        elif mountable and rng.random() < 0.5:
            try:
                outcome = one.disk(rng.randrange(_SPARE // 4, one.total + _SPARE))
            except subprocess.CalledProcessError:
                mountable = False
                continue
        else:
            outcome = one.full(rng.randrange(one.largest))
        done.append(asdict(outcome))
        with open(args.folder / "outcomes.jsonl", "a") as file:
            print(json.dumps(done[-1]), file=file)
        if not outcome.is_good:
            print(outcome, flush=True)


def killed(one: "Trials", rng: random.Random) -> "Outcome":
    """Kill at the first sight of a kind of file, at any moment of the disk's, or at any time."""
    fault = rng.choice([fault for fault in _KILLS if fault != "worker" or one.target.workers])
    if fault == "time":
        return one.killed_after(rng.uniform(0.05, one.seconds))
    moments = one.first_sights() if rng.random() < 0.5 else range(len(one.moments))
    return one.killed(fault, rng.choice(moments))


def read(folder: Path) -> list[dict]:
    """Return the outcomes of earlier trials."""
    file = folder / "outcomes.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def table(outcomes: list[dict]) -> str:
    """Return Markdown: a row per command, and their sum."""
    rows: dict[str, list[int]] = defaultdict(lambda: [0] * 9)
    for outcome in outcomes:
        for name in (outcome["target"], "all"):
            row = rows[name]
            row[0] += outcome["fault"] in _KILLS
            row[1] += outcome["fault"] == "full"
            row[2] += outcome["fault"] == "disk"
            row[3] += bool(outcome["cut"])
            row[4] += bool(outcome["lost"])
            row[5] += bool(outcome["wrong"])
            row[6] += bool(outcome["left"])
            row[7] += outcome["traceback"] and outcome["fault"] in _TOLD
            row[8] += not outcome["met"]
    counted = "kills", "file limits", "full disks", "cut for a while", "lost", "wrong", "left", "tracebacks", "too late"
    heads = ["command", *counted]
    names = sorted(rows, key=lambda name: name == "all")
    lines = [heads, ["---"] * len(heads), *([name, *map(str, rows[name])] for name in names)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
