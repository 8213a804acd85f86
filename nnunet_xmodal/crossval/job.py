"""One fold of one trainer: which files it leaves, and the command that trains it."""

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class Job:
    """One fold of one trainer.

    Attributes:
        results: nnU-Net's results folder.
        dataset: its full name, `Dataset501_Glioma2Mod`.
        fold: a number, or "all".
        flags: passed on to `nnUNetv2_train`, e.g. `("--npz", "-device", "cpu")`; `{fold}` in a path of pretrained
            weights becomes the fold, because weights that have seen its validation cases would flatter it.
        previous: of a cascade, the configuration whose predictions it reads; else None.
    """

    results: str
    dataset: str
    configuration: str
    trainer: str
    plans: str
    fold: int | str
    flags: tuple[str, ...] = ()
    previous: str | None = None

    @property
    def model(self) -> str:
        """Return the name of the folder that its folds share."""
        return f"{self.trainer}__{self.plans}__{self.configuration}"

    @property
    def model_folder(self) -> Path:
        """Return the folder that its folds share."""
        return Path(self.results) / self.dataset / self.model

    @property
    def folder(self) -> Path:
        """Return the folder of the fold."""
        return self.model_folder / f"fold_{self.fold}"

    @property
    def log(self) -> Path:
        """Return the file that the job prints into; every start appends."""
        return self.folder / "crossval_log.txt"

    @property
    def name(self) -> str:
        """Return model and fold in words."""
        return f"{self.model}, fold {self.fold}"

    def reads(self, other: "Job") -> bool:
        """Return whether another job is of the first stage of the cascade whose second stage this one is of."""
        return (other.trainer, other.plans, other.configuration) == (self.trainer, self.plans, self.previous)

    def command(self, *flags: str) -> list[str]:
        """Return the stock call; `flags` say how it begins, `--c` or `--val`."""
        what = [self.dataset, self.configuration, str(self.fold), "-tr", self.trainer, "-p", self.plans]
        passed = list(self.flags)
        if "-pretrained_weights" in passed:
            where = passed.index("-pretrained_weights")
            if "--c" in flags:  # nnU-Net refuses both; the checkpoint has them in it
                del passed[where : where + 2]
            else:
                passed[where + 1] = passed[where + 1].replace("{fold}", str(self.fold))
        return ["nnUNetv2_train", *what, *passed, *flags]

    def as_dict(self) -> dict:
        """Return the fields, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> "Job":
        """Make a job from `as_dict`, or from what JSON gives back of it."""
        return cls(**{**content, "flags": tuple(content["flags"])})


def jobs_of(
    results: str | Path,
    dataset: str,
    configurations: Sequence[str],
    trainers: Sequence[str],
    plans: Sequence[str],
    folds: Sequence[int | str],
    flags: Sequence[str] = (),
) -> list[Job]:
    """Return all combinations, fold after fold: an interrupted cross-validation holds comparable trainings."""
    return [
        Job(str(results), dataset, configuration, trainer, plan, fold, tuple(flags))
        for configuration in configurations
        for fold in folds
        for plan in plans
        for trainer in trainers
    ]


def executable(name: str) -> str:
    """Find a script of this Python environment, else the one on the PATH.

    Raises:
        XModalError: if there is neither.
    """
    here = os.pathsep.join((str(Path(sys.executable).parent), sysconfig.get_path("scripts")))
    path = shutil.which(name, path=here) or shutil.which(name)
    if path is None:
        raise XModalError(f"the command {name} is not found: install nnunetv2 in the environment of {sys.executable}.")
    return path
