"""What Slurm is asked for."""

import math
import re
from dataclasses import dataclass, field

from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.errors import XModalError

NOTICE = 120
"""Seconds before the end of a job's time at which it gets a signal, to stop the training and go back into the queue."""

_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<first>\d+)(?::(?P<second>\d+))?(?::(?P<third>\d+))?")
_OWN_FLAGS = {"partition": "--partition", "time": "--time", "mem": "--mem", "cpus_per_task": "--cpus"}
_RESERVED = {"array", "dependency", "error", "job_name", "open_mode", "output", "signal"}


@dataclass(frozen=True)
class SlurmSettings:
    """The resources and options of every job.

    Attributes:
        minutes: time limit of a job; one that reaches it continues in the next.
        mem: memory of a job as Slurm writes it, `32G`.
        cpus, gpus: of one job.
        at_once: jobs of an array that run at once.
        extra: further options of sbatch; True for those that take no value.
    """

    partition: str | None = None
    minutes: int = 24 * 60
    mem: str = "32G"
    cpus: int = 8
    gpus: int = 1
    at_once: int = 64
    extra: dict[str, str | bool] = field(default_factory=dict)

    @classmethod
    def of_request(cls, request: CrossvalRequest) -> "SlurmSettings":
        """Return what a cross-validation asks Slurm for.

        Raises:
            XModalError: for a time that Slurm would not read, or an option without `=`.
        """
        return cls(
            request.partition,
            minutes_of(request.time_limit),
            request.memory,
            request.cpu_cores,
            request.gpus_per_training if request.device == "cuda" else 0,
            request.jobs_at_once,
            dict(_option(word) for word in request.sbatch_options),
        )

    @property
    def parameters(self) -> dict:
        """Return the parameters for submitit's SlurmExecutor."""
        parameters = {
            "partition": self.partition,
            "time": self.minutes,
            "mem": self.mem,
            "cpus_per_task": self.cpus,
            "gpus_per_node": self.gpus or None,
            "array_parallelism": self.at_once,
            "signal_delay_s": NOTICE,
            "wckey": None,  # submitit's own default is a key that clusters with accounting may not know
            # From Slurm 22.05 on srun does not take the number of cores over from sbatch, and in a script that was
            # submitted with --export=NONE it passes no variables on: neither PATH nor submitit's.
            "srun_args": [f"--cpus-per-task={self.cpus}", "--export=ALL"],
            "additional_parameters": {"requeue": True, "kill_on_invalid_dep": "yes", **self.extra},
        }
        if any(key.startswith("gpus") or (key == "gres" and "gpu" in str(value)) for key, value in self.extra.items()):
            del parameters["gpus_per_node"]
        if any(key.startswith("mem_per") for key in self.extra):
            del parameters["mem"]
        return parameters


def minutes_of(time: str) -> int:
    """Convert Slurm's limit into whole minutes, rounded up: `90`, `90:00`, `1:30:00`, `1-12`, `1-12:00:00`.

    Raises:
        XModalError: for anything else, and for no time at all.
    """
    match = _TIME.fullmatch(time.strip())
    if match is None:
        raise XModalError(f"--time {time} is no time limit: write minutes, hours:minutes:seconds or days-hours.")
    first, second, third = (int(match[name] or 0) for name in ("first", "second", "third"))
    if match["days"] is not None:
        seconds = ((int(match["days"]) * 24 + first) * 60 + second) * 60 + third
    elif match["third"] is not None:
        seconds = (first * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    if seconds == 0:
        raise XModalError(f"--time {time} leaves no time: write minutes, hours:minutes:seconds or days-hours.")
    return math.ceil(seconds / 60)


def _option(word: str) -> tuple[str, str | bool]:
    key, _, value = word.partition("=")
    key = key.removeprefix("--").replace("-", "_")
    if not key or not value:
        raise XModalError(f"--slurm {word}: options are written as key=value, those that take no value as key=true.")
    if key in _OWN_FLAGS:
        raise XModalError(f"--slurm {word}: there is {_OWN_FLAGS[key]} for that.")
    if key in _RESERVED:
        raise XModalError(f"--slurm {word}: {key} is needed for the arrays themselves and cannot be chosen.")
    return key, True if value == "true" else value
