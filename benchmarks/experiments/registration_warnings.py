"""What the warnings of `registration.csv` are worth: does disagreement tell a registration that failed?

    python benchmarks/experiments/registration_warnings.py -d 961 -f 0 1 --first nnUNetTrainerCorrespondenceReg_20epochs

As at prediction the network of a fold looks from the grid and from four shifted ones; here on validation cases of its
fold, whose truth is known, from starts within the training's range, from others beyond it, and with the moving image
of another case, which no transform can make right. Every line of the table is a threshold of the disagreement in mm:
the share of warnings where the result is within `--failure` mm, beyond it, and of another case. As at prediction, who
moves the centre farther than the training's 20 mm is warned as well; the line of an infinite threshold is that alone.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from registration_baselines import CONFIGURATION, Alone
from without_training import parser_of_folds, trainer_of_fold

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.evaluation.registration_error import registration_error
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.tasks.registration.disagreement import disagreement
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations
from nnunet_xmodal.tasks.registration.steps import SHIFTS
from nnunet_xmodal.tasks.registration.surroundings import FARTHEST
from nnunet_xmodal.trainers.registration import nnUNetTrainerAttentionReg

BEYOND = (20.0, 40.0)
"""SRE in mm of starts beyond the training's."""
THRESHOLDS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, np.inf)


def measure(trainer: Alone, count: int) -> list[dict]:
    """Return a line per start of every validation case: kind, disagreement, mm before and after."""
    method = trainer.method()
    cases = trainer.cases_on_grid(trainer.get_tr_and_val_datasets()[1])
    cut = {name: [cases.cut(name, shift) for shift in ((0.0, 0.0, 0.0), *SHIFTS)] for name in cases.identifiers}
    rows = []
    for name, grids in cut.items():
        here, spacing = grids[0], grids[0].spacing.tolist()
        offsets = [torch.from_numpy(here.chain.to_grid(one.chain.grid_to_physical[:3, 3])) for one in grids]
        following = cases.identifiers[(cases.identifiers.index(name) + 1) % len(cases.identifiers)]
        kinds = (("within", trainer.sre_range, name), ("beyond", BEYOND, name), ("other case", (0.0, 10.0), following))
        for kind, sre, of_moving in kinds:
            for start, base in enumerate(rigid_transform.matrix(fixed_perturbations(name, here.points, sre, count))):
                opinions = []
                for one, other, offset in zip(grids, cut[of_moving], offsets):
                    found = method(one.fixed[0], other.moving[0], spacing, rigid_transform.about(base, offset)).matrix
                    opinions.append(rigid_transform.about(found, -offset))
                before, after = (
                    registration_error(matrix, here.points)["SRE_mm"].item() for matrix in (base, opinions[0])
                )
                # where they would bring the moving image from its start, as prediction counts it
                moved = torch.stack([opinion @ rigid_transform.inverse(base) for opinion in opinions])
                rows.append(
                    {
                        "fold": trainer.fold,
                        "case": name,
                        "kind": kind,
                        "start": start,
                        "before": before,
                        "after": after if kind != "other case" else np.nan,
                        "moved": moved[0, :3, 3].norm().item(),
                        "disagreement": disagreement(moved),
                    }
                )
    return rows


def of_thresholds(table: pd.DataFrame, failure: float) -> pd.DataFrame:
    """Return the share of warnings in %, a line per threshold: of good results, failures and other cases' images."""
    other = table.kind == "other case"
    groups = {
        f"within {failure:g} mm": table[~other & (table.after <= failure)],
        f"beyond {failure:g} mm": table[~other & (table.after > failure)],
        "another case": table[other],
    }

    def warned(group: pd.DataFrame, threshold: float) -> float:
        return 100 * ((group.disagreement > threshold) | (group.moved > FARTHEST)).mean()

    shares = {
        f"{name} ({len(group)})": [warned(group, threshold) for threshold in THRESHOLDS]
        for name, group in groups.items()
    }
    return pd.DataFrame(shares, index=pd.Index(THRESHOLDS, name="mm")).round(1)


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = parser_of_folds(__doc__, "nnUNetRegistrationPlans")
    parser.add_argument("--first", default="nnUNetTrainerCorrespondenceReg", help="trainer of the network")
    parser.add_argument("--starts", type=int, default=5, help="per case and kind")
    parser.add_argument("--failure", type=float, default=5.0, help="mm (default: 5)")
    parser.add_argument("-o", type=Path, metavar="CSV", help="write a line per start")
    Alone.options = args = parser.parse_args()
    Alone.exact_starts = nnUNetTrainerAttentionReg.exact_starts
    Alone.sre_range = nnUNetTrainerAttentionReg.sre_range
    discovery.register()
    rows = []
    for fold in args.f:
        rows += measure(trainer_of_fold(Alone, CONFIGURATION, args, fold), args.starts)
    table = pd.DataFrame(rows)
    if args.o:
        table.to_csv(args.o, index=False)
    print(table.groupby("kind")[["before", "after", "disagreement"]].describe().T.round(2).to_string())
    print(of_thresholds(table, args.failure).to_string())
    known = table[table.after.notna()]
    print(f"rank correlation of disagreement and error: {known.disagreement.corr(known.after, 'spearman'):.2f}")


if __name__ == "__main__":
    main()
