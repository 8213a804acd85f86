"""What a few-shot network segments before it has learnt anything, measured as its trainer measures it.

    python benchmarks/experiments/untrained_few_shot.py -d 951 -f 0 1 2 3 4 -tr nnUNetTrainerALPR18

Same support, same validation; the backbone has the weights that a training begins with. Results lie beside those of
trainers, in `UntrainedALPR18__nnUNetFewShotPlans__2d` for example, and `nnUNetXModal_compare` tabulates them.
"""

import argparse
import json
from pathlib import Path

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal import discovery, trainers
from nnunet_xmodal.commands.argument_types import fold
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.files.atomic import write_json


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset, number or name")
    parser.add_argument("-f", nargs="+", type=fold, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    parser.add_argument("-tr", default="nnUNetTrainerALPR18", help="trainer (default: nnUNetTrainerALPR18)")
    parser.add_argument("-p", default="nnUNetFewShotPlans", help="plans")
    parser.add_argument("-device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    discovery.register()
    dataset = maybe_convert_to_dataset_name(int(args.d) if args.d.isdecimal() else args.d)
    preprocessed = Path(nnUNet_preprocessed) / dataset
    plans, dataset_json = (json.loads((preprocessed / f"{name}.json").read_text()) for name in (args.p, "dataset"))
    kind = getattr(trainers, args.tr)
    untrained = type(args.tr.replace("nnUNetTrainer", "Untrained"), (kind,), {"__module__": __name__})
    for number in args.f:
        torch.manual_seed(0)
        trainer = untrained(plans, "2d", number, dataset_json, torch.device(args.device))
        trainer.initialize()
        trainer.choose_support()
        write_json(trainer.plans_manager.plans, Path(trainer.output_folder_base) / "plans.json")
        write_json(dataset_json, Path(trainer.output_folder_base) / "dataset.json")
        trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
        trainer.perform_actual_validation()


if __name__ == "__main__":
    main()
