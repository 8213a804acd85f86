"""`nnUNetXModal_crossval`: trainers × folds, as stock trainings, here or on a cluster."""

import argparse

from nnunet_xmodal.commands.argument_types import fold, positive
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


def parser() -> argparse.ArgumentParser:
    """Flags as those of `nnUNetv2_train` where they mean the same."""
    p = argparse.ArgumentParser(
        prog="nnUNetXModal_crossval",
        description="Trains several trainers on several folds, each by one call of nnUNetv2_train. What is finished is "
        "skipped, what was interrupted goes on: the same command can be given again at any time.",
    )
    p.add_argument("-d", required=True, metavar="DATASET", help="dataset name or ID")
    p.add_argument("-c", nargs="+", required=True, metavar="CONFIGURATION", help="configurations, e.g. 2d 3d_fullres")
    p.add_argument("-tr", nargs="+", default=["nnUNetTrainer"], metavar="TRAINER", help="default: nnUNetTrainer")
    p.add_argument("-p", nargs="+", default=["nnUNetPlans"], metavar="PLANS", help="default: nnUNetPlans")
    p.add_argument("-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], metavar="FOLD", help="default: 0 1 2 3 4")
    p.add_argument("--npz", action="store_true", help="also save probabilities of the validation cases")
    p.add_argument("--val_best", action="store_true", help="validate with checkpoint_best")
    p.add_argument(
        "-pretrained_weights", metavar="FILE", help="checkpoint to begin with; {fold} in it becomes each fold's"
    )
    p.add_argument("-device", default="cuda", choices=["cuda", "cpu", "mps"], help="default: cuda")
    p.add_argument("-num_gpus", type=positive, default=1, help="GPUs of one training (default: 1)")
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
    p.add_argument("--executor", choices=["local", "slurm", "print"], default="local", help="default: local")

    local = p.add_argument_group("local")
    local.add_argument("--gpus", nargs="+", metavar="ID", help="GPUs to use (default: all)")
    local.add_argument("--jobs", type=positive, help="trainings at once (default: one per GPU, or one without any)")

    slurm = p.add_argument_group("slurm")
    slurm.add_argument("--partition", help="partition of the jobs")
    slurm.add_argument("--time", default="1-00:00:00", help="limit of a job as Slurm writes it (default: 1-00:00:00)")
    slurm.add_argument("--mem", default="32G", help="memory of a job (default: 32G)")
    slurm.add_argument("--cpus", type=positive, default=8, help="CPU cores of a job (default: 8)")
    slurm.add_argument("--at-once", type=positive, default=64, help="jobs of an array that run at once (default: 64)")
    slurm.add_argument(
        "--slurm",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="further options of sbatch, e.g. account=lab qos=long constraint=a100 gres=gpu:a100:1",
    )
    return p


@one_sentence_errors
def main(arguments: list[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    from nnunet_xmodal.crossval.run import crossval  # imports torch: not for --help

    raise SystemExit(crossval(args))


if __name__ == "__main__":
    main()
