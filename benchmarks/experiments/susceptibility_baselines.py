"""Susceptibility maps without learning, measured as the trainers' final validation measures networks.

    python benchmarks/experiments/susceptibility_baselines.py -d 952 -f 0 1 2 3 4 --methods tkd tikhonov tv

The same preprocessed cases, in the folds that the first training has split; the threshold, λ or α is the one with the
least mean RMSE on training cases of the fold. A field does not tell the mean of its map, and division in k-space makes
it 0 over the padded grid, whatever the maps of the dataset are counted from; networks learn that from the training. So
a constant is added inside the mask, the mean difference between training maps and their reconstructions.

Results lie beside those of trainers, `TKD__nnUNetReconstructionPlans__3d_fullres` for example, so

    nnUNetXModal_compare -d 952 -c 3d_fullres -p nnUNetReconstructionPlans -o report \\
        -tr nnUNetTrainerQSM nnUNetTrainerQSMFA TKD Tikhonov TV

puts all into one table, without parameters and FLOPs of what is no network.

    tkd         TKD         truncated k-space division
    tikhonov    Tikhonov    Tikhonov's regularisation in closed form
    tv          TV          total variation by alternating directions, the strongest of the three
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from without_training import parser_of_folds, validate_folds

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.evaluation.reconstruction import relative_error
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.physics.field_inputs import known_voxels
from nnunet_xmodal.physics.inversion import tikhonov, truncated_division
from nnunet_xmodal.physics.total_variation import total_variation
from nnunet_xmodal.tasks.reconstruction.validation import Method, PreprocessedCase, read_case
from nnunet_xmodal.trainers.susceptibility_direct import nnUNetTrainerQSMDirect

CONFIGURATION = "3d_fullres"


class Untrained(nnUNetTrainerQSMDirect):
    """As much of a trainer as its final validation needs; results go to a folder of the class' name."""

    options: argparse.Namespace
    invert: Callable[..., torch.Tensor]
    parameters: Sequence[float]

    def reconstructed(self, case: PreprocessedCase, parameter: float) -> np.ndarray:
        """Return the map up to a constant, 0 outside the mask."""
        geometry = self.field.geometry(case.properties, case.target.shape, self.plans_manager.transpose_forward)
        mask = torch.from_numpy(case.mask)[None, None].to(self.device)
        # not cut to the mask, which may be a part of the brain: local fields are 0 outside the brain
        field = torch.from_numpy(case.inputs[:1])[None].to(self.device) / self.field.one_ppm
        return type(self).invert(field, mask, *geometry, parameter)[0, 0].cpu().numpy()

    def method(self) -> Method:
        """Return the inversion with the parameter of the least mean RMSE on training cases, and its constant."""
        names, _ = self.do_split()
        dataset = self.dataset_class(self.preprocessed_dataset_folder, names)
        names = names[: self.options.training_cases]
        cases = [read_case(dataset, name, self.target, self.label_manager.ignore_label) for name in names]
        errors, constants = {}, {}
        for parameter in self.parameters:
            made = [self.reconstructed(case, parameter) for case in cases]
            constant = constants[parameter] = mean_difference(made, cases)
            each = [relative_error(found + constant, case.target, case.mask) for found, case in zip(made, cases)]
            errors[parameter] = float(np.mean(each))
        chosen = min(errors, key=errors.__getitem__)
        self.print_to_log_file(f"RMSE on {len(names)} training cases: {errors}; chosen: {chosen}")
        record = {"chosen": chosen, "constant": constants[chosen], "RMSE_percent": errors}
        write_json(record, Path(self.output_folder) / "parameter.json")
        return lambda case: self.reconstructed(case, chosen) + constants[chosen]


def mean_difference(made: Sequence[np.ndarray], cases: Sequence[PreprocessedCase]) -> float:
    """Return maps minus reconstructions in ppm: the mean over the voxels of each mask, then over the cases."""
    return float(np.mean([(case.target - found)[case.mask].mean() for found, case in zip(made, cases)]))


class TKD(Untrained):
    invert = staticmethod(truncated_division)
    parameters = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)


class Tikhonov(Untrained):
    invert = staticmethod(tikhonov)
    parameters = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1)


class TV(Untrained):
    parameters = (5e-5, 1e-4, 2e-4, 3e-4, 5e-4)

    @staticmethod
    def invert(
        field: torch.Tensor,
        mask: torch.Tensor,
        spacing: Sequence[float],
        direction: Sequence[float],
        alpha: float,
    ) -> torch.Tensor:
        """Take for the brain where the field is not 0; the mask may be a part of it."""
        known = torch.from_numpy(known_voxels(field[0, 0].cpu().numpy())).to(field)[None, None]
        return total_variation(field, known, spacing, direction, alpha) * mask


METHODS = {"tkd": TKD, "tikhonov": Tikhonov, "tv": TV}


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = parser_of_folds(__doc__, "nnUNetReconstructionPlans")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--training_cases", type=int, default=10, help="that the parameter is chosen on, at most")
    Untrained.options = args = parser.parse_args()
    validate_folds((METHODS[name] for name in args.methods), CONFIGURATION, args)


if __name__ == "__main__":
    main()
