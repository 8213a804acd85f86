"""A command meets a fault, is given again, and what it leaves is compared with what an undisturbed one leaves."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from fault_targets import Target

if TYPE_CHECKING:
    from conftest import Command, Workspace

_BIN = Path(sys.executable).parent
_FAULTY = str(Path(__file__).with_name("faulty.py"))
_NO_LIMIT = 1 << 40  # bytes
_LONGEST = 600  # seconds after which a command hangs
_LOGS = ("*.txt", "*.log", "*/debug.json", "*/.crossval/*")


@dataclass
class Outcome:
    """
    Attributes:
        status: of the disturbed command.
        cut: files that were under their final name and not whole, before the command was given again.
        lost: what is missing at the end, or why the command did not go on.
        wrong: files that are other than undisturbed, or passed for whole with status 0.
        left: processes and temporary files.
        traceback: whether the disturbed command showed one.
        met: whether the fault came before the command had ended.
    """

    target: str
    fault: str
    number: int
    status: int | None = None
    cut: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    traceback: bool = False
    met: bool = True
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.wrong or self.left)


class Trials:
    """Faults for one target.

    Args:
        space: with the data that `fault_targets.make_base` makes.
        folder: for what is tried; a new folder in it for every trial.
    """

    def __init__(self, target: Target, space: Workspace, folder: Path):
        self.target, self.space, self.folder = target, space, folder
        self.count = 0
        self._temporary = tempfile.TemporaryDirectory()  # of a short name: sockets' paths may have 107 characters
        if target.seconds is not None:
            self.seconds, self.moments, self.reference, self.largest = target.seconds, [], {}, 300_000
            return
        began = time.monotonic()
        out = self._new_folder()
        command = self._start(out, "none", 0)
        status = command.wait()
        assert status == 0, f"{target.name} ended with {status}:\n{command.output()[-4000:]}"
        self.seconds = time.monotonic() - began
        self.moments = (out.parent / "moments").read_text().splitlines()
        self.reference = self._tree(out)
        assert self.reference and not self._missing(out)
        sizes = [file.stat().st_size for file in out.rglob("*") if file.is_file()]
        self.largest, self.total = max(sizes), sum(sizes)
        assert not self._remains(out), self._remains(out)

    def first_sights(self) -> list[int]:
        """The moments at which each kind of file (by folder and ending, numbers aside) is seen for the first time."""
        kinds: dict[str, int] = {}
        for index, line in enumerate(self.moments):
            event, _, path = line.partition(" ")
            path = re.sub(r"\.tmp_[^/]*", "tmp", path)
            parts = [re.sub(r"\d+", "", part) for part in Path(path).parts]
            kinds.setdefault(" ".join([event, *parts[:-1], "".join(Path(path).suffixes)]), index)
        return sorted(kinds.values())

    def killed(self, fault: str, number: int) -> Outcome:
        """A signal at one of `self.moments`; `fault` is kill, main, worker, term, int or ints, see faulty.py."""
        out = self._new_folder()
        began = time.monotonic()
        command = self._start(out, fault, number)
        outcome = Outcome(self.target.name, fault, number)
        self._wait(command, outcome)
        outcome.met = outcome.status != 0
        return self._judged(outcome, out, command, began)

    def killed_after(self, seconds: float, fault: str = "time") -> Outcome:
        """A signal after a time; `fault` is time (SIGKILL for the group), main, term or int."""
        out = self._new_folder()
        began = time.monotonic()
        command = self._start(out, "full", _NO_LIMIT)
        while command.poll() is None and not Path(f"{command.output_files}.err").exists():
            time.sleep(0.005)  # until then it is the process that it was forked from
        shown = time.monotonic()
        while command.poll() is None and time.monotonic() - shown < seconds:
            time.sleep(0.005)
        with suppress(ProcessLookupError):
            if fault in ("time", "int"):
                command.kill(signal.SIGINT if fault == "int" else signal.SIGKILL)
            else:
                command.send_signal(signal.SIGKILL if fault == "main" else signal.SIGTERM)
        outcome = Outcome(self.target.name, fault, round(1000 * seconds))
        self._wait(command, outcome)
        outcome.met = outcome.status != 0
        return self._judged(outcome, out, command, began)

    def full(self, size: int) -> Outcome:
        """No file may be larger than so many bytes."""
        out = self._new_folder()
        return self._filled("full", size, out, time.monotonic())

    def disk(self, size: int) -> Outcome:
        """The output lies on a disk of so many bytes, which is larger when the command is given again; for root alone.

        Raises:
            CalledProcessError: if this user, or system, cannot mount one.
        """
        out = self._new_folder()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(out)], check=True)
        try:
            outcome = self._filled("disk", size, out, time.monotonic())
        finally:
            subprocess.run(["umount", "-l", str(out)], check=True)
        return outcome

    def _filled(self, fault: str, size: int, out: Path, began: float) -> Outcome:
        command = self._start(out, "full", size if fault == "full" else _NO_LIMIT)
        outcome = Outcome(self.target.name, fault, size)
        self._wait(command, outcome)
        outcome.met = outcome.status != 0
        if fault == "disk":
            subprocess.run(["mount", "-o", "remount,size=1g", str(out)], check=True)
        return self._judged(outcome, out, command, began)

    def _wait(self, command: Command, outcome: Outcome) -> None:
        try:
            outcome.status = command.wait(_LONGEST)
        except TimeoutError:
            outcome.lost.append(f"it hangs: nothing has come of it after {_LONGEST} s")

    def _judged(self, outcome: Outcome, out: Path, command: Command, began: float) -> Outcome:
        if outcome.status == 0:
            outcome.wrong += [
                f"{name} is other, with status 0" for name in [*self._missing(out), *self._different(out)]
            ]
        outcome.left += self._processes(command, out)
        said = command.output()
        outcome.traceback = "Traceback" in said
        # the stock command, and the last moments of every process, know no other end by SIGTERM than at once
        at_once = outcome.status == -signal.SIGTERM or self.target.command == "nnUNetv2_train"
        if outcome.fault not in ("kill", "main", "time") and not at_once:
            outcome.left += self._remains(out)
        outcome.cut = [str(file.relative_to(out)) for file in _unreadable(out)]
        again = self._start(out, "full", _NO_LIMIT, *self.target.again)
        try:
            status = again.wait(_LONGEST)
        except TimeoutError:
            status = None
        if status != 0:
            words = [line for line in again.output().splitlines() if line.strip()]
            outcome.lost.append(
                f"given again it {f'ends with {status}' if status else 'hangs'}: {' | '.join(words[-2:])[-300:]}"
            )
        else:
            outcome.lost += self._missing(out)
            outcome.wrong += self._different(out)
        outcome.left += self._processes(again, out)
        outcome.left += self._remains(out)
        outcome.seconds = time.monotonic() - began
        if outcome.is_good:
            shutil.rmtree(out.parent, ignore_errors=outcome.fault == "disk")
        return outcome

    def _new_folder(self) -> Path:
        self.count += 1
        place = self.folder / f"{re.sub('[^a-z]+', '_', self.target.name)}{self.count}"
        (place / "out").mkdir(parents=True)
        self._tmp(place / "out").mkdir()
        return place / "out"

    def _tmp(self, out: Path) -> Path:
        return Path(self._temporary.name) / out.parent.name

    def _remains(self, out: Path) -> list[str]:
        # torch keeps what it has compiled there, after undisturbed commands, too
        other = (path.name for path in self._tmp(out).iterdir() if not path.name.startswith("torchinductor_"))
        return [*_temporary(out), *other]

    def _start(self, out: Path, fault: str, number: int, *again: str):
        target = self.target
        words = [word.replace("{out}", str(out)) for word in target.arguments]
        environment = dict(target.environment) | {"TMPDIR": str(self._tmp(out))}
        if target.variable:
            environment[target.variable] = str(out)
        script = (sys.executable, _FAULTY, fault, number, out, _BIN / target.command, *words, *again)
        return self.space.start(*script, **environment)

    def _processes(self, command: Command, out: Path) -> list[str]:
        """Those that a command has started and that are still there after a moment."""
        deadline = time.monotonic() + 5
        while found := list(_of_trial(command.output_files, out.parent, self._tmp(out))):
            if time.monotonic() > deadline:
                return [f"process {pid}: {words}" for pid, words in found]
            time.sleep(0.02)
        return []

    def _tree(self, out: Path) -> dict[str, str]:
        ignored = (*_LOGS, *self.target.ignored)
        files = {str(file.relative_to(out)): file for file in sorted(out.rglob("*")) if file.is_file()}
        return {name: digest(file) for name, file in files.items() if not any(fnmatch(name, one) for one in ignored)}

    def _missing(self, out: Path) -> list[str]:
        if self.target.needed:
            return [f"{pattern} is missing" for pattern in self.target.needed if not any(out.glob(pattern))]
        return [f"{name} is missing" for name in self.reference.keys() - self._tree(out).keys()]

    def _different(self, out: Path) -> list[str]:
        if self.target.needed:
            return [str(file.relative_to(out)) for file in _unreadable(out)]
        now = self._tree(out)
        return sorted(name for name in now if now[name] != self.reference.get(name))


def _of_trial(output: str, folder: Path, temporary: Path) -> Iterable[tuple[int, str]]:
    """Processes that a trial has started, idle ones, too.

    A command's workers print to where it prints; what it starts as programs of their own, whose output goes elsewhere,
    has its folder for temporary files in the environment; and anything else that works for it has a file of it open.
    """
    ours = (output, f"{folder}/", f"{temporary}/")
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError):
            if (process / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":  # ended, and nobody has asked
                continue
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:100]
            if f"TMPDIR={temporary}".encode() in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name), words
            elif any(os.readlink(file).startswith(ours) for file in (process / "fd").iterdir()):
                yield int(process.name), words


def _temporary(place: Path) -> list[str]:
    """Locks, half files and folders of temporary things under the output."""
    marks = (".tmp*", "*.tmp", "*.lock", "pymp-*", "*.partial", "*.unreadable.tmp")
    found = [path for path in place.rglob("*") if any(fnmatch(path.name, mark) for mark in marks)]
    return sorted(str(path.relative_to(place)) for path in found)


def _unreadable(out: Path) -> list[Path]:
    files = [file for file in sorted(out.rglob("*")) if file.is_file() and not file.name.endswith((".txt", ".lock"))]
    return [file for file in files if "/.tmp_" not in str(file) and digest(file) == "unreadable"]


def digest(file: Path) -> str:
    """Of what is in a file, whatever the moment at which it was packed."""
    try:
        return hashlib.sha256(_content(file)).hexdigest()
    except Exception:  # whatever readers raise
        return "unreadable"


def _content(file: Path) -> bytes:
    name, content = file.name, file.read_bytes()
    if name.endswith(".gz"):
        return gzip.decompress(content)
    if name.endswith((".npz", ".pth")):
        with zipfile.ZipFile(file) as archive:
            return b"".join(archive.read(member) for member in sorted(archive.namelist()))
    if name.endswith(".b2nd"):
        import blosc2

        return blosc2.open(str(file), mode="r")[:].tobytes()
    if name.endswith(".json"):
        json.loads(content)
    elif name.endswith(".pkl"):
        pickle.loads(content)
    elif name.endswith(".png"):
        from PIL import Image

        with Image.open(file) as image:
            return image.tobytes()
    elif name.endswith(".html") and not content.rstrip().endswith(b"</html>"):
        raise ValueError
    elif name == "registration.csv":  # the times that it took stand last
        rows = list(csv.reader(content.decode().splitlines()))
        return repr([row[: rows[0].index("seconds_network")] for row in rows]).encode()
    elif not content and not name.startswith("."):
        raise ValueError
    return content
