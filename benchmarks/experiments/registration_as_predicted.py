"""Registration as `nnUNetXModal_predict` does it, on validation cases: from five grids, with warnings.

    python benchmarks/experiments/registration_as_predicted.py -d 961 --first nnUNetTrainerCorrespondenceReg_20epochs \\
        --second nnUNetTrainerCorrespondenceRegStage2_15epochs -o as_predicted.csv
    python benchmarks/experiments/registration_as_predicted.py -d 961 --new 962 --first … --second …

The final validation of trainers looks from one grid; prediction looks from four shifted ones as well, takes the mean,
and tells from how far they lie apart how sure it is. Here the networks of each fold do both on its validation cases,
whose truth is known: from the validation's own starts (`within`, `from 8 mm`, `from 16 mm`); from starts farther away
than any of the training (`beyond`); and with the moving image of another case (`other case`), which no transform makes
right. `one_grid` and `after` are mm of the organ's surface from its place, by the last network. With `--new`, all folds
together register all cases of another dataset, preprocessed alike, which none of them has seen.

Every line of the second table is a threshold of the disagreement in mm: the share of warnings where the result is
within `--failure` mm, beyond it, and of another case. As at prediction, who moves the centre farther than the
training's 20 mm is warned as well; the line of an infinite threshold is that alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from registration_baselines import CONFIGURATION, Alone
from without_training import parser_of_folds, trainer_of_fold

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.evaluation.registration_error import registration_error, warped_dice
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.tasks.registration.by_network import ByNetwork
from nnunet_xmodal.tasks.registration.disagreement import disagreement
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations
from nnunet_xmodal.tasks.registration.steps import SHIFTS
from nnunet_xmodal.tasks.registration.surroundings import FARTHEST
from nnunet_xmodal.tasks.registration.training_cases import CaseOnGrid, RegistrationCases
from nnunet_xmodal.trainers.registration import nnUNetTrainerAttentionReg

BEYOND = (20.0, 40.0)
"""SRE in mm of starts beyond the training's."""
THRESHOLDS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, np.inf)

Stages = Sequence[Sequence[ByNetwork]]
"""Per stage its networks, one of each fold."""
Grids = Sequence[tuple[CaseOnGrid, CaseOnGrid, torch.Tensor]]
"""Of the fixed and of the moving image, and the centre in mm from that of the first grid."""


def opinions(networks: Sequence[ByNetwork], grids: Grids, bases: torch.Tensor) -> torch.Tensor:
    """Return what every network finds on every grid from every start, `(opinions, starts, 4, 4)` about one centre."""
    found = []
    for network in networks:
        for fixed, moving, offset in grids:
            image = fixed.label if network.fixed_is_label else fixed.fixed
            here = rigid_transform.about(bases, offset)
            matrices, _ = network.of_starts(image[0], moving.moving[0], fixed.spacing.tolist(), here)
            found.append(rigid_transform.about(matrices, -offset))
    return torch.stack(found)


def register(stages: Stages, grids: Grids, bases: torch.Tensor) -> dict[str, torch.Tensor]:
    """Register by one stage after the other.

    Returns:
        Matrices `(starts, 4, 4)`: `one_grid`, the mean of each stage's networks on the first grid alone; `after`, over
        all grids. And the largest `disagreement` of a stage in mm, `(starts)`.
    """
    alone, together, largest = bases, bases, torch.zeros(len(bases))
    for networks in stages:
        alone = rigid_transform.mean_se3(opinions(networks, grids[:1], alone))
        found = opinions(networks, grids, together)
        moved = found @ rigid_transform.inverse(together)
        largest = largest.maximum(torch.tensor([disagreement(moved[:, start]) for start in range(len(bases))]))
        together = rigid_transform.mean_se3(found)
    return {"one_grid": alone, "after": together, "disagreement": largest}


def measure(trainer: Alone, cases: RegistrationCases, stages: Stages, counts: Mapping[str, int]) -> pd.DataFrame:
    """Return a line per start of every case, of which there are so many of every kind."""
    cut = {name: [cases.cut(name, shift) for shift in ((0.0, 0.0, 0.0), *SHIFTS)] for name in cases.identifiers}
    tables = []
    for name, on_grids in cut.items():
        here = on_grids[0]
        offsets = [torch.from_numpy(here.chain.to_grid(one.chain.grid_to_physical[:3, 3])) for one in on_grids]
        following = cases.identifiers[(cases.identifiers.index(name) + 1) % len(cases.identifiers)]
        every_kind = {
            "within": (trainer.sre_range, name),
            "from 8 mm": (8.0, name),
            "from 16 mm": (16.0, name),
            "beyond": (BEYOND, name),
            "other case": (trainer.sre_range, following),
        }
        kinds = {kind: start for kind, start in every_kind.items() if counts[kind]}
        for kind, (sre, of_moving) in kinds.items():
            bases = rigid_transform.matrix(fixed_perturbations(name, here.points, sre, counts[kind]))
            found = register(stages, list(zip(on_grids, cut[of_moving], offsets)), bases)
            known = np.nan if of_moving != name else 1.0
            left = {stage: registration_error(found[stage], here.points) for stage in ("one_grid", "after")}
            lines = {
                "before": registration_error(bases, here.points)["SRE_mm"],
                "one_grid": known * left["one_grid"]["SRE_mm"],
                "after": known * left["after"]["SRE_mm"],
                "rotation": known * left["after"]["rotation_error_deg"],
                "Dice": known * warped_dice(here.label, here.label, found["after"].float(), here.spacing.float()),
                "moved": (found["after"] @ rigid_transform.inverse(bases))[:, :3, 3].norm(dim=1),
                "disagreement": found["disagreement"],
            }
            tables.append(pd.DataFrame({"fold": trainer.fold, "case": name, "kind": kind, **lines}))
        print(
            tables[-len(kinds)].groupby("case")[["before", "one_grid", "after"]].mean().round(2).to_string(header=False)
        )
    return pd.concat(tables, ignore_index=True)


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
    parser.add_argument("--second", help="trainer of the second stage (default: none)")
    parser.add_argument("--new", metavar="DATASET", help="number or name of pairs that no fold has seen")
    parser.add_argument("--starts", type=int, default=40, help="per case, in [0, 20] mm")
    parser.add_argument("--exact_count", type=int, default=20, help="per case, at 8 and at 16 mm")
    parser.add_argument("--beyond", type=int, default=5, help="per case, beyond 20 mm and of other cases' images each")
    parser.add_argument("--failure", type=float, default=5.0, help="mm (default: 5)")
    parser.add_argument("-o", type=Path, metavar="CSV", help="write a line per start")
    Alone.options = args = parser.parse_args()
    Alone.exact_starts = nnUNetTrainerAttentionReg.exact_starts
    Alone.sre_range = nnUNetTrainerAttentionReg.sre_range
    counts = {"within": args.starts, "from 8 mm": args.exact_count, "from 16 mm": args.exact_count}
    counts |= {"beyond": args.beyond, "other case": args.beyond}
    discovery.register()
    trainers = [trainer_of_fold(Alone, CONFIGURATION, args, fold) for fold in args.f]
    names = [name for name in (args.first, args.second) if name]
    of_folds = [[trainer.trained(name) for name in names] for trainer in trainers]
    if args.new:
        args.d = args.new
        new = trainer_of_fold(Alone, CONFIGURATION, args, "all")
        cases = new.cases_on_grid(new.get_tr_and_val_datasets()[0])
        table = measure(new, cases, list(zip(*of_folds)), counts)
    else:
        tables = []
        for trainer, networks in zip(trainers, of_folds):
            cases = trainer.cases_on_grid(trainer.get_tr_and_val_datasets()[1])
            tables.append(measure(trainer, cases, [[network] for network in networks], counts))
        table = pd.concat(tables, ignore_index=True)
    if args.o:
        table.to_csv(args.o, index=False, float_format="%.4f")
    numbers = ["before", "one_grid", "after", "rotation", "Dice", "disagreement"]
    of_cases = table.groupby(["kind", "fold", "case"], sort=False)[numbers].mean()
    print(of_cases.groupby(["kind", "fold"], sort=False).mean().round(2).to_string())
    print(of_cases.groupby("kind", sort=False).agg(["mean", "std"]).round(2).to_string())
    print(f"failures beyond 10 mm: {100 * (table[table.kind == 'within'].after > 10).mean():.2f} %")
    print(of_thresholds(table, args.failure).to_string())
    known = table[table.after.notna()]
    print(f"rank correlation of disagreement and error: {known.disagreement.corr(known.after, 'spearman'):.2f}")


if __name__ == "__main__":
    main()
