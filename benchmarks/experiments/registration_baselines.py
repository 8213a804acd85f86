"""Registrations that are not one network, measured as the trainers' final validation measures networks.

    python benchmarks/experiments/registration_baselines.py -d 951 -f 0 1 2 3 4 --methods mi mind
    python benchmarks/experiments/registration_baselines.py -d 951 -f 0 --methods two_stages refined -device cuda

The same preprocessed cases on the same grids from the same starts, in the folds that the first training has split.
Results lie beside those of trainers, `MutualInformation__nnUNetRegistrationPlans__3d_fullres` for example, so

    nnUNetXModal_compare -d 951 -c 3d_fullres -p nnUNetRegistrationPlans -o report \\
        -tr nnUNetTrainerAttentionReg nnUNetTrainerFeatureReg MutualInformation MIND

puts all into one table, without parameters and FLOPs of what is no network.

    mi          MutualInformation       Mattes mutual information from the start
    mind        MIND                    SSD of MIND descriptors from the start
    two_stages  TwoStages               --first, then --second
    refined     RefinedByMI             --first, then mutual information
    alone       Alone                   --first, as it is: for other starts than its own validation's
"""

import argparse
from pathlib import Path

from nnunetv2.run.run_training import get_trainer_from_args
from without_training import parser_of_folds, validate_folds

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.registration import mind, mutual_information
from nnunet_xmodal.tasks.registration.by_network import ByNetwork, InTurn
from nnunet_xmodal.tasks.registration.method import RegistrationMethod
from nnunet_xmodal.trainers.base.registration import RegistrationTrainer
from nnunet_xmodal.trainers.registration import nnUNetTrainerAttentionReg

CONFIGURATION = "3d_fullres"
FINAL = "checkpoint_final.pth"


class Untrained(RegistrationTrainer):
    """As much of a trainer as its final validation needs; results go to a folder of the class' name."""

    options: argparse.Namespace

    def trained(self, name: str) -> ByNetwork:
        """Return the network that a trainer has trained on this fold."""
        arguments = (self.plans_manager.dataset_name, self.configuration_name, self.fold, name)
        trainer = get_trainer_from_args(*arguments, self.plans_manager.plans_name, device=self.device)
        checkpoint = Path(trainer.output_folder) / FINAL
        if not checkpoint.is_file():
            raise XModalError(f"{checkpoint} is missing: train {name} on fold {self.fold} first.")
        trainer.load_checkpoint(str(checkpoint))
        return trainer.method()


class MutualInformation(Untrained):
    def method(self) -> RegistrationMethod:
        """Return the registration."""
        return mutual_information.MutualInformation(threads=self.options.threads)


class MIND(Untrained):
    def method(self) -> RegistrationMethod:
        """Return the registration."""
        return mind.MIND()


class TwoStages(Untrained):
    def method(self) -> RegistrationMethod:
        """Return one trained network after the other."""
        return InTurn(self.trained(self.options.first), self.trained(self.options.second))


class RefinedByMI(Untrained):
    def method(self) -> RegistrationMethod:
        """Return a trained network with mutual information after it."""
        return InTurn(
            self.trained(self.options.first), mutual_information.MutualInformation(threads=self.options.threads)
        )


class Alone(Untrained):
    def method(self) -> RegistrationMethod:
        """Return a trained network."""
        return self.trained(self.options.first)


METHODS = {"mi": MutualInformation, "mind": MIND, "two_stages": TwoStages, "refined": RefinedByMI, "alone": Alone}


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = parser_of_folds(__doc__, "nnUNetRegistrationPlans")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["mi", "mind"])
    parser.add_argument("--first", default="nnUNetTrainerAttentionReg", help="trainer of the network that begins")
    parser.add_argument("--second", default="nnUNetTrainerAttentionRegStage2", help="trainer of the second stage")
    parser.add_argument(
        "--starts", type=int, default=nnUNetTrainerAttentionReg.starts_at_the_end, help="per case, in [0, 20] mm"
    )
    parser.add_argument(
        "--exact", nargs="*", type=float, default=nnUNetTrainerAttentionReg.exact_starts, help="SRE of others in mm"
    )
    parser.add_argument(
        "--exact_count", type=int, default=nnUNetTrainerAttentionReg.exact_count, help="of these, per case and SRE"
    )
    parser.add_argument("--threads", type=int, help="of mutual information (default: all cores)")
    Untrained.options = args = parser.parse_args()
    Untrained.starts_at_the_end, Untrained.exact_count = args.starts, args.exact_count
    Untrained.exact_starts = tuple(args.exact)
    validate_folds((METHODS[name] for name in args.methods), CONFIGURATION, args)


if __name__ == "__main__":
    main()
