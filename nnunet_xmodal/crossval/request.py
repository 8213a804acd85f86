"""What a cross-validation can be asked for."""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.catalogue.groups import expanded
from nnunet_xmodal.errors import XModalError

EXECUTORS = ("local", "slurm", "print")
DEVICES = ("cuda", "cpu", "mps")


@dataclass(frozen=True)
class CrossvalRequest:
    """Describe which trainers are trained on which folds, and where; see `crossval.run.crossval`.

    Attributes:
        dataset: name or ID of a preprocessed dataset.
        configurations: of its plans, for example `("2d", "3d_fullres")`.
        trainers: class names, or groups of them like `@fusion`, see `catalogue.groups`; every trainer is combined with
            every configuration, plans and fold.
        plans: names.
        folds: numbers, or "all".
        save_probabilities: whether probabilities of the validation cases are saved as well.
        validate_best: whether checkpoint_best is validated in place of the last one.
        pretrained_weights: checkpoint to begin with; `{fold}` in its path becomes each fold.
        device: `cuda`, `cpu` or `mps`.
        gpus_per_training: GPUs that one training runs on, with `cuda`.
        group_by: folds in which the cases of one subject stay together: a regular expression whose first group is the
            subject in a case's name, or a CSV file of case and subject; None keeps an existing split.
        trust: let checkpoints and plans name any code and run it, in all jobs.
        executor: `local` trains here, `slurm` submits, `print` writes the commands to stdout.
        gpus: IDs of the GPUs to use here; None for all.
        trainings_at_once: here; None for one per GPU, or one without any.
        partition: of Slurm; None for the cluster's default.
        time_limit: of a job, as Slurm writes it.
        memory: of a job, as Slurm writes it.
        cpu_cores: of a job.
        jobs_at_once: of an array, with Slurm.
        sbatch_options: further ones as `key=value`, those that take no value as `key=true`.

    Raises:
        XModalError: for an unknown executor or device, fewer than one of what is counted, several GPUs with another
            device than `cuda`, and what is named twice.
    """

    dataset: str | int
    configurations: Sequence[str]
    trainers: Sequence[str] = ("nnUNetTrainer",)
    plans: Sequence[str] = ("nnUNetPlans",)
    folds: Sequence[int | str] = (0, 1, 2, 3, 4)
    save_probabilities: bool = False
    validate_best: bool = False
    pretrained_weights: str | None = None
    device: str = "cuda"
    gpus_per_training: int = 1
    group_by: str | None = None
    trust: bool = False
    executor: str = "local"
    gpus: Sequence[str] | None = None
    trainings_at_once: int | None = None
    partition: str | None = None
    time_limit: str = "1-00:00:00"
    memory: str = "32G"
    cpu_cores: int = 8
    jobs_at_once: int = 64
    sbatch_options: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "trainers", expanded(self.trainers))  # frozen
        for flag, value, known in (("--executor", self.executor, EXECUTORS), ("-device", self.device, DEVICES)):
            if value not in known:
                raise XModalError(f"{flag} {value} is unknown: take one of {', '.join(known)}.")
        for flag, number in (
            ("-num_gpus", self.gpus_per_training),
            ("--jobs", self.trainings_at_once),
            ("--cpus", self.cpu_cores),
            ("--at-once", self.jobs_at_once),
        ):
            if number is not None and number < 1:
                raise XModalError(f"{flag} {number} is not a positive number.")
        if self.gpus_per_training > 1 and self.device != "cuda":
            raise XModalError(
                f"-num_gpus {self.gpus_per_training} goes with -device cuda, not with -device {self.device}."
            )
        for flag, values in (
            ("-c", self.configurations),
            ("-tr", self.trainers),
            ("-p", self.plans),
            ("-f", self.folds),
            ("--gpus", self.gpus or ()),
        ):
            _check_unique(flag, values)


def _check_unique(flag: str, values: Sequence[int | str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise XModalError(f"{flag} names {value} twice: once is enough.")
