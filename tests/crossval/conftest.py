"""Jobs on an empty results folder, and an `nnUNetv2_train` that leaves the files of the real one within moments."""

import json
import os
import pickle
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import blosc2
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.crossval import local
from nnunet_xmodal.crossval.job import Job

TRAIN = """\
import json, multiprocessing, os, sys, time, zipfile
from datetime import datetime
from pathlib import Path

dataset, configuration, fold, *flags = sys.argv[1:]
trainer, plans = (flags[flags.index(name) + 1] for name in ("-tr", "-p"))
behaviour = json.loads(Path(os.environ["BEHAVIOUR"]).read_text())
model = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__{configuration}"
folder = model / f"fold_{fold}"


def event(what):
    line = dict(what=what, trainer=trainer, configuration=configuration, fold=fold, flags=flags,
                gpu=os.environ.get("CUDA_VISIBLE_DEVICES"), cores=multiprocessing.cpu_count(),
                time=time.monotonic(), pid=os.getpid())
    with open(os.environ["EVENTS"], "a") as file:
        print(json.dumps(line), file=file)


def log(text):
    print(text)
    with open(folder / "training_log_2025_1_1_00_00_00.txt", "a") as file:
        print(f"{datetime.now()}: {text}", file=file)


def checkpoint(name):
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("data", "weights")


event("begins")
if behaviour["workers"] and os.fork() == 0:  # a loader worker, which does not notice that its parent died
    time.sleep(60)
    os._exit(0)
if "--val" not in flags:
    time.sleep(behaviour["start"])
    (model / "plans.json").write_text("{}")
    log("Epoch 0")
    checkpoint("checkpoint_latest.pth")
    event("trains")
    time.sleep(behaviour["epoch"])
    if f"{trainer} {configuration} {fold}" in behaviour["fails"]:
        print("no weights would do", flush=True)
        event("ends")
        sys.exit(3)
    (folder / "checkpoint_latest.pth").unlink()
    checkpoint("checkpoint_final.pth")
(folder / "validation").mkdir(exist_ok=True)
(folder / "validation" / "summary.json").write_text('{"foreground_mean": {"Dice": 0.5}, "metric_per_case": []}')
event("ends")
"""


@dataclass
class Fake:
    """What the fake training does, and what it did."""

    folder: Path

    def behave(self, start: float = 0.0, epoch: float = 0.0, fails: tuple[str, ...] = (), workers: bool = True) -> None:
        """Seconds before and in the one epoch; which `trainer configuration fold` end with status 3; loader workers."""
        behaviour = dict(start=start, epoch=epoch, fails=fails, workers=workers)
        (self.folder / "behaviour.json").write_text(json.dumps(behaviour))

    @property
    def events(self) -> list[dict]:
        file = self.folder / "events.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def most_at_once(self) -> int:
        change = {"begins": 1, "trains": 0, "ends": -1}
        changes = [change[event["what"]] for event in sorted(self.events, key=lambda event: event["time"])]
        return max(accumulate(changes))

    def times(self, what: str) -> list[float]:
        return sorted(event["time"] for event in self.events if event["what"] == what)

    def alive(self) -> list[int]:
        """Processes of the groups of all trainings that ever began, workers included."""
        groups = {event["pid"] for event in self.events}
        return [process for process, group in processes().items() if group in groups]


def processes() -> dict[int, int]:
    """Process → its group; zombies do not count."""
    found = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, *_ = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state != "Z":
            found[int(file.parent.name)] = int(group)
    return found


@pytest.fixture
def fake_training(tmp_path, monkeypatch) -> Fake:
    train, supervisor = tmp_path / "nnUNetv2_train", tmp_path / "supervisor.py"
    train.write_text(f"#!{sys.executable} -SE\n{TRAIN}")
    train.chmod(0o755)
    supervisor.write_text(
        "from nnunet_xmodal.crossval import supervised\n"
        f"supervised.executable = lambda name: {str(train)!r}\n"
        "supervised.main()\n"
    )
    monkeypatch.setattr(local, "_SUPERVISOR", (sys.executable, str(supervisor)))
    monkeypatch.setattr(local, "_POLL", 0.02)
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("EVENTS", str(tmp_path / "events.jsonl"))
    monkeypatch.setenv("BEHAVIOUR", str(tmp_path / "behaviour.json"))
    fake = Fake(tmp_path)
    fake.behave()
    return fake


@pytest.fixture
def make_job(tmp_path):
    """`(fold, **others)` → a job on an empty results folder."""

    def make(fold: int | str = 0, **others) -> Job:
        content = dict(dataset="Dataset999_Tiny", configuration="2d", trainer="nnUNetTrainer", plans="nnUNetPlans")
        return Job(results=str(tmp_path / "results"), fold=fold, **{**content, **others})

    return make


@pytest.fixture
def write_checkpoint():
    """`(job, name, intact)` → a checkpoint as torch would write it, or one that was cut off."""

    def write(job: Job, name: str, intact: bool = True) -> Path:
        job.folder.mkdir(parents=True, exist_ok=True)
        file = job.folder / f"checkpoint_{name}.pth"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("archive/data.pkl", os.urandom(1000))
        if not intact:
            file.write_bytes(file.read_bytes()[:600])
        return file

    return write


@pytest.fixture
def write_summary():
    """`(job, content)` → the summary of its validation."""

    def write(job: Job, content: object = None) -> Path:
        file = job.folder / "validation" / "summary.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(content or {"foreground_mean": {"Dice": 0.5}, "metric_per_case": []}))
        return file

    return write


@pytest.fixture
def write_preprocessed():
    """`(folder, cases)` → files of every case as nnU-Net leaves them, small and whole."""

    def write(folder: Path, cases: Iterable[str]) -> None:
        label, data = folder / "gt_segmentations" / "first.nii.gz", folder / "nnUNetPlans_2d" / "first.b2nd"
        sitk.WriteImage(sitk.Image(4, 4, 4, sitk.sitkUInt8), str(label))
        blosc2.asarray(np.zeros((1, 4, 4, 4), np.float32), urlpath=str(data), mode="w")
        for case in cases:
            (label.parent / f"{case}.nii.gz").write_bytes(label.read_bytes())
            for ending in (".b2nd", "_seg.b2nd"):
                (data.parent / f"{case}{ending}").write_bytes(data.read_bytes())
            (data.parent / f"{case}.pkl").write_bytes(pickle.dumps({}))
        label.unlink(), data.unlink()

    return write
