"""Whether a deformable registration behind a rigid one gains: B-splines of elastix from where a network ended.

    pip install itk-elastix
    python benchmarks/experiments/deformable_refinement.py -d 961 -f 0 --first nnUNetTrainerCorrespondenceReg_20epochs
    python benchmarks/experiments/deformable_refinement.py -d 961 -f 0 --deformed 4 \\
        --first nnUNetTrainerCorrespondenceReg_20epochs

The harness of the final validation: the same preprocessed cases on the same grids from the same starts, and the same
mean distance in mm of the organ's surface from its place; for a deformation that is the mean of ‖φ(m) − m‖, as SRE is
of ‖T m − m‖. Pairs of this package's phantoms are rigid. `--deformed` bends the moving image beforehand by a smooth
random field of that root mean square in mm inside the organ, which is what such a method is for.

elastix (Klein et al., 2010): B-splines of `--spacing` mm, Mattes mutual information and a bending energy, three levels.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from registration_baselines import CONFIGURATION, Alone
from scipy.ndimage import gaussian_filter, map_coordinates
from without_training import parser_of_folds, trainer_of_fold

from nnunet_xmodal import discovery
from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.warp import warp
from nnunet_xmodal.tasks.registration.perturbations import fixed_perturbations
from nnunet_xmodal.tasks.registration.training_cases import CaseOnGrid
from nnunet_xmodal.trainers.registration import nnUNetTrainerAttentionReg

SMOOTH = 12.0
"""mm, standard deviation of the filter that makes random fields smooth."""

SETTINGS = {
    "Metric0Weight": "1",  # mutual information
    "Metric1Weight": "100",  # bending energy
    "MaximumNumberOfIterations": "200",
    "NumberOfSpatialSamples": "4000",
    "RandomSeed": "1",
    "WriteResultImage": "false",
}
"""What differs from elastix' defaults for B-splines."""


class Bending:
    """A smooth random displacement of a case's moving image, `(3, D', H', W')` in mm along x, y, z.

    Args:
        case: whose moving image is bent.
        name: of the case, which seeds the field.
        size: root mean square in mm inside the organ; 0 for none.
    """

    def __init__(self, case: CaseOnGrid, name: str, size: float) -> None:
        self.spacing = case.spacing.numpy()
        shape = case.moving.shape[1:]
        rng = np.random.default_rng(crc32(name.encode()))
        sigma = SMOOTH / self.spacing
        field = np.stack([gaussian_filter(rng.standard_normal(shape), sigma) for _ in range(3)])
        label = warp(case.label[None], torch.eye(4)[None], case.spacing.float(), mode="nearest", size=shape)[0, 0] > 0
        inside = (field[:, label.numpy()] ** 2).sum(0).mean() ** 0.5
        self.field = size * field / inside

    def at(self, points: np.ndarray) -> np.ndarray:
        """Return the displacement `(N, 3)` of points x, y, z in mm from the centre of the grid, `(N, 3)`."""
        return sampled(self.field, points, self.spacing)

    def bent(self, moving: torch.Tensor) -> torch.Tensor:
        """Return moving(x + d(x)), `(1, D', H', W')`."""
        shape = moving.shape[1:]
        voxels = np.indices(shape) + self.field[::-1] / self.spacing[:, None, None, None]
        return torch.from_numpy(map_coordinates(moving[0].numpy(), voxels, order=1, mode="nearest"))[None]


def sampled(field: np.ndarray, points: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the values `(N, 3)` of a field `(3, D, H, W)` around the centre of the grid at points x, y, z in mm."""
    middle = (np.array(field.shape[1:]) - 1) / 2
    voxels = (points[:, ::-1] / np.array(spacing) + middle).T
    return np.stack([map_coordinates(component, voxels, order=1, mode="nearest") for component in field], 1)


def deformed_points(
    fixed: np.ndarray, warped: np.ndarray, spacing: Sequence[float], points: np.ndarray, control: float
) -> np.ndarray:
    """Return where elastix sees points of the fixed image in the moving one that was warped onto its grid.

    Args:
        fixed, warped: float32 `(D, H, W)`.
        spacing: mm along D, H, W.
        points: x, y, z in mm from the centre of the grid, `(N, 3)`.
        control: mm between control points.
    """
    import itk

    images = []
    for array in (fixed, warped):
        image = itk.image_view_from_array(np.ascontiguousarray(array, np.float32))
        image.SetSpacing([float(mm) for mm in spacing][::-1])
        image.SetOrigin([-(side - 1) / 2 * float(mm) for side, mm in zip(array.shape[::-1], spacing[::-1])])
        images.append(image)
    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("bspline", 3, control)
    for name, value in SETTINGS.items():
        settings[name] = [value]
    parameters.AddParameterMap(settings)
    _, found = itk.elastix_registration_method(*images, parameter_object=parameters, number_of_threads=1)
    with TemporaryDirectory() as folder:  # transformix writes the field, wherever it is
        made = itk.transformix_deformation_field(images[1], found, output_directory=folder)
        field = itk.array_from_image(made)  # D H W 3
    return points + sampled(np.moveaxis(field, -1, 0), points, spacing)


def measure(trainer: Alone, args: argparse.Namespace) -> list[dict]:
    """Return a line per start of every validation case: mm before, after the network, and after elastix."""
    method = trainer.method()
    cases = trainer.cases_on_grid(trainer.get_tr_and_val_datasets()[1])
    rows = []
    for name in cases.identifiers:
        case = cases.cut(name)
        points = case.points.numpy()
        bending = Bending(case, name, args.deformed)
        moving = bending.bent(case.moving)
        starts = fixed_perturbations(name, case.points, trainer.sre_range, args.starts)
        for start, base in enumerate(rigid_transform.matrix(starts)):
            found = method(case.fixed[0], moving[0], case.spacing.tolist(), base).matrix
            warped = warp(moving[None], found.float()[None], case.spacing.float(), size=case.fixed.shape[1:])
            after = deformed_points(
                case.fixed[0].numpy(), warped[0, 0].numpy(), case.spacing.tolist(), points, args.spacing
            )
            rows.append({"fold": trainer.fold, "case": name, "start": start})
            for stage, matrix, seen in (
                ("before", base, points),
                ("network", found, points),
                ("elastix", found, after),
            ):
                in_moving = rigid_transform.apply(rigid_transform.inverse(matrix), torch.from_numpy(seen)).numpy()
                left = in_moving + bending.at(in_moving) - points
                rows[-1][stage] = float(np.linalg.norm(left, axis=1).mean())
        print(pd.DataFrame(rows[-args.starts :]).round(2).to_string(index=False, header=False), flush=True)
    return rows


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = parser_of_folds(__doc__, "nnUNetRegistrationPlans")
    parser.add_argument("--first", default="nnUNetTrainerCorrespondenceReg", help="trainer of the network that begins")
    parser.add_argument("--starts", type=int, default=2, help="per case, in [0, 20] mm")
    parser.add_argument("--spacing", type=float, default=20.0, help="mm between control points")
    parser.add_argument("--deformed", type=float, default=0.0, metavar="MM", help="bend the moving images beforehand")
    parser.add_argument("-o", type=Path, metavar="CSV", help="write a line per start")
    Alone.options = args = parser.parse_args()
    Alone.exact_starts = nnUNetTrainerAttentionReg.exact_starts
    discovery.register()
    rows = [row for fold in args.f for row in measure(trainer_of_fold(Alone, CONFIGURATION, args, fold), args)]
    table = pd.DataFrame(rows)
    if args.o:
        table.to_csv(args.o, index=False)
    of_cases = table.groupby("case")[["before", "network", "elastix"]].mean()
    print(of_cases.agg(["mean", "std"]).round(2).to_string())
    print(f"elastix is nearer in {(of_cases.elastix < of_cases.network).sum()} of {len(of_cases)} cases")


if __name__ == "__main__":
    main()
