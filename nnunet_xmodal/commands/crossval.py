"""`nnUNetXModal_crossval`: trainers × folds, as stock trainings, here or on a cluster.

Trains several trainers on several folds, each by one call of nnUNetv2_train. What is finished is skipped, what was
interrupted goes on: the same command can be given again at any time.
"""

import argparse
from functools import partial

from nnunet_xmodal.commands.argument_types import positive
from nnunet_xmodal.commands.field_flags import FieldFlags, description_of, request_from
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.crossval.request import DEVICES, EXECUTORS, CrossvalRequest


def parser() -> argparse.ArgumentParser:
    """Build the parser, with flags as those of `nnUNetv2_train` where they mean the same."""
    p = argparse.ArgumentParser("nnUNetXModal_crossval", description=description_of(__doc__))
    flags = FieldFlags(p, CrossvalRequest)
    flags.add_models()
    flags.add("save_probabilities", "also save probabilities of the validation cases", "--npz")
    flags.add("validate_best", "validate with checkpoint_best", "--val_best")
    flags.add(
        "pretrained_weights",
        "checkpoint to begin with; {fold} in it becomes each fold's",
        "-pretrained_weights",
        metavar="FILE",
    )
    flags.add("device", flag="-device", choices=DEVICES)
    flags.add("gpus_per_training", "GPUs of one training", "-num_gpus", type=positive)
    flags.add(
        "group_by",
        "folds in which the cases of one subject stay together: a regular expression whose first group is the subject "
        "in a case's name, a CSV file of case and subject, or participants.tsv of BIDS",
        "--group-by",
        metavar="REGEX|CSV|TSV",
    )
    flags.add(
        "trust",
        "let checkpoints and plans name any code and run it, in all jobs: only for those whose makers you trust",
    )
    flags.add("executor", choices=EXECUTORS)

    local = FieldFlags(p.add_argument_group("local"), CrossvalRequest)
    local.add("gpus", "GPUs to use (default: all)", nargs="+", metavar="ID")
    local.add(
        "trainings_at_once", "trainings at once (default: one per GPU, or one without any)", "--jobs", type=positive
    )

    slurm = FieldFlags(p.add_argument_group("slurm"), CrossvalRequest)
    slurm.add("partition", "partition of the jobs")
    slurm.add("time_limit", "limit of a job as Slurm writes it", "--time")
    slurm.add("memory", "memory of a job", "--mem")
    slurm.add("cpu_cores", "CPU cores of a job", "--cpus", type=positive)
    slurm.add("jobs_at_once", "jobs of an array that run at once", "--at-once", type=positive)
    slurm.add(
        "sbatch_options",
        "further options of sbatch, e.g. account=lab qos=long constraint=a100 gres=gpu:a100:1",
        "--slurm",
        nargs="+",
        metavar="KEY=VALUE",
    )
    flags.add_groups()
    return p


request_of = partial(request_from, CrossvalRequest)
"""From what the parser returned to the request."""


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_crossval`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.crossval.run import crossval  # imports torch: not for --help

    raise SystemExit(crossval(request))


if __name__ == "__main__":
    main()
