"""What a few-shot network segments before it has learnt anything, measured as its trainer measures it.

    python benchmarks/experiments/untrained_few_shot.py -d 951 -f 0 1 2 3 4 -tr nnUNetTrainerALPR18

Same support, same validation; the backbone has the weights that a training begins with. Results lie beside those of
trainers, in `UntrainedALPR18__nnUNetFewShotPlans__2d` for example, and `nnUNetXModal_compare` tabulates them.
"""

from pathlib import Path

import torch
from without_training import parser_of_folds, trainer_of_fold

from nnunet_xmodal import discovery, trainers
from nnunet_xmodal.commands.one_sentence import one_sentence_errors


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = parser_of_folds(__doc__, "nnUNetFewShotPlans")
    parser.add_argument("-tr", default="nnUNetTrainerALPR18", help="trainer (default: nnUNetTrainerALPR18)")
    args = parser.parse_args()
    discovery.register()
    kind = getattr(trainers, args.tr)
    untrained = type(args.tr.replace("nnUNetTrainer", "Untrained"), (kind,), {"__module__": __name__})
    for number in args.f:
        torch.manual_seed(0)
        trainer = trainer_of_fold(untrained, "2d", args, number)
        trainer.initialize()
        trainer.choose_support()
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        trainer.perform_actual_validation()


if __name__ == "__main__":
    main()
