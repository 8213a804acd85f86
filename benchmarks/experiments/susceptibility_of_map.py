"""A measured susceptibility map as test data: its field in several positions of the head, and what models make of it.

    python benchmarks/experiments/susceptibility_of_map.py heads chi.nii.gz $nnUNet_raw/Dataset953_ChiHeads
    python benchmarks/experiments/susceptibility_of_map.py halves chi.nii.gz $nnUNet_raw/Dataset954_ChiHalves
    python benchmarks/experiments/susceptibility_of_map.py measure $nnUNet_raw/Dataset953_ChiHeads --tkd 0.2 \\
        --tikhonov 0.03 --tv 2e-4 --predicted QSM=maps_qsm FA=maps_fa

`heads` writes test cases only: the head turned about its axes, the field computed on the map's grid, both averaged over
blocks of 2³ voxels, noise of 0.002 ppm. `measure` compares with the map what `nnUNetXModal_predict` made of them, and
inversions with the parameters that were chosen elsewhere; `--figure` shows the first case. All are counted from their
mean inside the mask beforehand: fields do not tell it, and a measured map has been counted from whatever its makers
chose.

`halves` writes training cases: the head in eight positions on the map's own grid, its field computed on one twice as
fine. The label of six is the lower half of the brain, that of two, in other positions, the upper half; between them
a gap of half a patch of 32 slices. The field and the map of the other half are there, as its sources are in any
measurement, but a patch centred in the lower half sees no voxel of the upper one. `splits_final.json` for
nnUNet_preprocessed lies in the folder: fold 0 trains on the lower half and is measured on the upper one.
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.evaluation.figures.planes import ShownVolume, draw_planes
from nnunet_xmodal.evaluation.reconstruction import reconstruction_quality
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.geometry.bounding_box import bounding_box
from nnunet_xmodal.phantoms.heads import CHANNELS
from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.inversion import tikhonov, truncated_division
from nnunet_xmodal.physics.simulate import block_means, local_field, with_noise
from nnunet_xmodal.physics.total_variation import total_variation

NOISE = 0.002
"""Standard deviation in ppm, the middle of the phantoms'."""
TURNS = ((0, 0, 0), (10, 0, 0), (0, 10, 0), (-10, 10, 0), (0, -20, 0), (20, 0, 0), (5, 5, 0), (-15, 0, 0))
"""Degrees about x, y, z; six to train on and two to test."""
TRAINED = 6
GAP = 16
"""Slices between the halves: half a patch of ReconstructionPlanner."""
_FACTOR = 2
_WINDOW, _ERROR_WINDOW = (-0.1, 0.1), (-0.05, 0.05)  # ppm


Reconstruct = Callable[[Path, str, np.ndarray], np.ndarray]
"""Raw dataset, case and mask `(z, y, x)` → map of the same shape."""


class Map:
    """A susceptibility map cut to its brain, which is where it is not 0.

    Attributes:
        susceptibility: `(1, 1, z, y, x)` in ppm, of sides that are multiples of 2.
        spacing: mm along z, y, x.
    """

    def __init__(self, file: Path) -> None:
        image = sitk.ReadImage(str(file), sitk.sitkFloat32)
        volume = sitk.GetArrayFromImage(image)
        box = bounding_box(volume != 0)
        box = tuple(slice(part.start, part.stop + (part.stop - part.start) % _FACTOR) for part in box)
        self.susceptibility = torch.from_numpy(volume[box])[None, None]
        self.spacing = np.array(image.GetSpacing())[::-1]

    def case(self, turn: tuple[float, ...], finer: int, rng: np.random.Generator) -> tuple:
        """Return field, map, mask, spacing, direction cosines; the field is computed on the finer of two grids."""
        cosines = Rotation.from_euler("xyz", turn, degrees=True).as_matrix()
        fine = (
            F.interpolate(self.susceptibility, scale_factor=finer, mode="trilinear")
            if finer > 1
            else (self.susceptibility)
        )
        brain = F.interpolate((self.susceptibility != 0).float(), scale_factor=finer) > 0
        fine_spacing = self.spacing / finer
        field = local_field(fine, brain, fine_spacing, field_direction(cosines))
        mask = block_means(brain.float(), _FACTOR) > 0.5
        noise = torch.Generator().manual_seed(int(rng.integers(2**32)))
        field = with_noise(block_means(field, _FACTOR), NOISE, noise) * mask
        volumes = (field, block_means(fine * brain, _FACTOR) * mask, mask.byte())
        return *(volume[0, 0].numpy() for volume in volumes), fine_spacing * _FACTOR, cosines


def write_heads(args: argparse.Namespace) -> None:
    """Write the turned heads as test cases."""
    source = Map(args.map)

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        field, susceptibility, mask, spacing, cosines = source.case(TURNS[index], 1, rng)
        return RawCase([field], mask, spacing, cosines, {"targetsTs": susceptibility})

    _write(args.folder, make, 0, 5)


def write_halves(args: argparse.Namespace) -> None:
    """Write the halves of the head as training cases, with their split."""
    source = Map(args.map)

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        field, susceptibility, mask, spacing, cosines = source.case(TURNS[index], _FACTOR, rng)
        brain = bounding_box(mask > 0)[0]
        middle = (brain.start + brain.stop) // 2
        mask[middle - GAP // 2 :] *= index >= TRAINED
        mask[: middle + GAP // 2] *= index < TRAINED
        return RawCase([field, susceptibility], mask, spacing, cosines)

    _write(args.folder, make, len(TURNS), 0)
    names = [f"head_tr{index:03d}" for index in range(len(TURNS))]
    write_json([{"train": names[:TRAINED], "val": names[TRAINED:]}], args.folder / "splits_final.json")


def _write(folder: Path, make: Callable[[np.random.Generator, Split, int], RawCase], n_train: int, n_test: int) -> None:
    write_raw_dataset(folder, make, n_train, n_test, 0, "head", CHANNELS, {"background": 0, "brain": 1})


def measure(args: argparse.Namespace) -> None:
    """Print how the maps of all methods differ from the measured one."""
    methods = [(name, _files_of(Path(folder))) for name, folder in (words.split("=", 1) for words in args.predicted)]
    if args.tkd:
        methods.append(("TKD", _inverted(truncated_division, args.tkd)))
    if args.tikhonov:
        methods.append(("Tikhonov", _inverted(tikhonov, args.tikhonov)))
    if args.tv:
        methods.append(("TV", _inverted(total_variation, args.tv)))
    rows: list[dict] = []
    for file in sorted((args.folder / "targetsTs").glob("*.nii.gz")):
        case = file.name.removesuffix(".nii.gz")
        mask = _array(args.folder / "labelsTs" / file.name) > 0
        true = from_mean(_array(file), mask)
        found = {name: from_mean(method(args.folder, case, mask), mask) for name, method in methods}
        if args.figure and not rows:
            shown = [ShownVolume("reference, ppm", true, *_WINDOW)]
            for name, volume in found.items():
                shown.append(ShownVolume(name, volume, *_WINDOW))
                shown.append(ShownVolume(f"{name}, error", volume - true, *_ERROR_WINDOW))
            draw_planes(shown, mask, sitk.ReadImage(str(file)).GetSpacing()[::-1], args.figure)
        for name, volume in found.items():
            rows.append({"method": name, "case": case, **reconstruction_quality(volume, true, mask)})
    table = pd.DataFrame(rows)
    print(table.pivot(index="case", columns="method", values="RMSE_percent").round(1).to_string())
    print(table.drop(columns="case").groupby("method", sort=False).agg(["mean", "std"]).round(3).to_string())


def from_mean(volume: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Count a map from its mean inside the mask, 0 outside: `(z, y, x)` → the same."""
    return np.where(mask, volume - volume[mask].mean(), 0)


def _files_of(predicted: Path) -> Reconstruct:
    return lambda folder, case, mask: _array(predicted / f"{case}.nii.gz")


def _inverted(method: Callable[..., torch.Tensor], parameter: float) -> Reconstruct:
    def invert(folder: Path, case: str, mask: np.ndarray) -> np.ndarray:
        image = sitk.ReadImage(str(folder / "imagesTs" / f"{case}_0000.nii.gz"))
        field, inside = (torch.from_numpy(volume)[None, None] for volume in (sitk.GetArrayFromImage(image), mask))
        direction = field_direction(np.array(image.GetDirection()).reshape(3, 3))
        return method(field, inside, image.GetSpacing()[::-1], direction, parameter)[0, 0].numpy()

    return invert


def _array(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@one_sentence_errors
def main(words: Iterable[str] | None = None) -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    jobs = parser.add_subparsers(required=True)
    for name, job in (("heads", write_heads), ("halves", write_halves)):
        of_map = jobs.add_parser(name)
        of_map.add_argument("map", type=Path, help="susceptibility in ppm, 0 outside the brain")
        of_map.add_argument("folder", type=Path, help="raw dataset to write")
        of_map.set_defaults(job=job)
    of_folder = jobs.add_parser("measure")
    of_folder.add_argument("folder", type=Path, help="raw dataset that `heads` wrote")
    of_folder.add_argument("--predicted", nargs="*", default=[], metavar="NAME=FOLDER", help="maps of models")
    of_folder.add_argument("--tkd", type=float, help="threshold")
    of_folder.add_argument("--tikhonov", type=float, help="λ")
    of_folder.add_argument("--tv", type=float, help="α in ppm")
    of_folder.add_argument("--figure", type=Path, metavar="PNG", help="of the first case: maps and their errors")
    of_folder.set_defaults(job=measure)
    args = parser.parse_args(words)
    args.job(args)


if __name__ == "__main__":
    main()
