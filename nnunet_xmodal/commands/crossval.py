"""`nnUNetXModal_crossval`: trainers × folds, as stock trainings, here or on a cluster."""

import argparse

from nnunet_xmodal.commands.argument_types import fold, positive
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.commands.request_fields import request_fields
from nnunet_xmodal.crossval.request import DEVICES, EXECUTORS, CrossvalRequest


def parser() -> argparse.ArgumentParser:
    """Build the parser, with flags as those of `nnUNetv2_train` where they mean the same."""
    p = argparse.ArgumentParser(
        prog="nnUNetXModal_crossval",
        description="Trains several trainers on several folds, each by one call of nnUNetv2_train. What is finished is "
        "skipped, what was interrupted goes on: the same command can be given again at any time.",
    )
    default = CrossvalRequest
    p.add_argument("-d", dest="dataset", required=True, metavar="DATASET", help="dataset name or ID")
    p.add_argument(
        "-c",
        dest="configurations",
        nargs="+",
        required=True,
        metavar="CONFIGURATION",
        help="configurations, e.g. 2d 3d_fullres",
    )
    p.add_argument(
        "-tr",
        dest="trainers",
        nargs="+",
        default=default.trainers,
        metavar="TRAINER",
        help=f"default: {' '.join(default.trainers)}",
    )
    p.add_argument(
        "-p",
        dest="plans",
        nargs="+",
        default=default.plans,
        metavar="PLANS",
        help=f"default: {' '.join(default.plans)}",
    )
    p.add_argument(
        "-f",
        dest="folds",
        nargs="+",
        type=fold,
        default=default.folds,
        metavar="FOLD",
        help=f"default: {' '.join(map(str, default.folds))}",
    )
    p.add_argument(
        "--npz",
        dest="save_probabilities",
        action="store_true",
        help="also save probabilities of the validation cases",
    )
    p.add_argument("--val_best", dest="validate_best", action="store_true", help="validate with checkpoint_best")
    p.add_argument(
        "-pretrained_weights", metavar="FILE", help="checkpoint to begin with; {fold} in it becomes each fold's"
    )
    p.add_argument("-device", default=default.device, choices=DEVICES, help="default: %(default)s")
    p.add_argument(
        "-num_gpus",
        dest="gpus_per_training",
        type=positive,
        default=default.gpus_per_training,
        metavar="NUM_GPUS",
        help="GPUs of one training (default: %(default)s)",
    )
    p.add_argument(
        "--group-by",
        metavar="REGEX|CSV",
        help="folds in which the cases of one subject stay together: a regular expression whose first group is the "
        "subject in a case's name, or a CSV file of case and subject",
    )
    p.add_argument(
        "--trust",
        action="store_true",
        help="let checkpoints and plans name any code and run it, in all jobs: only for those whose makers you trust",
    )
    p.add_argument("--executor", choices=EXECUTORS, default=default.executor, help="default: %(default)s")

    local = p.add_argument_group("local")
    local.add_argument("--gpus", nargs="+", metavar="ID", help="GPUs to use (default: all)")
    local.add_argument(
        "--jobs",
        dest="trainings_at_once",
        type=positive,
        metavar="JOBS",
        help="trainings at once (default: one per GPU, or one without any)",
    )

    slurm = p.add_argument_group("slurm")
    slurm.add_argument("--partition", help="partition of the jobs")
    slurm.add_argument(
        "--time",
        dest="time_limit",
        default=default.time_limit,
        metavar="TIME",
        help="limit of a job as Slurm writes it (default: %(default)s)",
    )
    slurm.add_argument(
        "--mem", dest="memory", default=default.memory, metavar="MEM", help="memory of a job (default: %(default)s)"
    )
    slurm.add_argument(
        "--cpus",
        dest="cpu_cores",
        type=positive,
        default=default.cpu_cores,
        metavar="CPUS",
        help="CPU cores of a job (default: %(default)s)",
    )
    slurm.add_argument(
        "--at-once",
        dest="jobs_at_once",
        type=positive,
        default=default.jobs_at_once,
        metavar="AT_ONCE",
        help="jobs of an array that run at once (default: %(default)s)",
    )
    slurm.add_argument(
        "--slurm",
        dest="sbatch_options",
        nargs="+",
        default=default.sbatch_options,
        metavar="KEY=VALUE",
        help="further options of sbatch, e.g. account=lab qos=long constraint=a100 gres=gpu:a100:1",
    )
    return p


def request_of(args: argparse.Namespace) -> CrossvalRequest:
    """Return what the flags ask for.

    Raises:
        XModalError: see CrossvalRequest.
    """
    return CrossvalRequest(**request_fields(args))


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_crossval`."""
    request = request_of(parser().parse_args(arguments))
    from nnunet_xmodal.crossval.run import crossval  # imports torch: not for --help

    raise SystemExit(crossval(request))


if __name__ == "__main__":
    main()
