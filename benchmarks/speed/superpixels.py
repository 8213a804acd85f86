"""Seconds for the superpixels of slices of 256²: as trainings make them, in processes, beside a loop in one process.

    python benchmarks/speed/superpixels.py
    python benchmarks/speed/superpixels.py --cases 4 --slices 10 --processes 1 2 4

Slices are CTs of phantoms with four organs, made on 256² and kept in memory as a dataset of nnU-Net's; maps are written
to a temporary folder. The time of the processes includes their start and all writing; the loop makes the same maps and
writes nothing. Both must be equal. A worker imports the program that began it, which is nothing else here and torch in
a training: some seconds, once per dataset. The ratio is to be at most 0.65 with two processes on two idle cores.
"""

import argparse
import os
import tempfile
from pathlib import Path
from time import perf_counter

# a worker, or the loop, is one thread: what is compared is work, not cores
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np  # noqa: E402

from nnunet_xmodal.tasks.few_shot.superpixels import (  # noqa: E402
    SuperpixelSettings,
    felzenszwalb_superpixels,
    intensity_range,
)

SIZE = (256, 256)
SETTINGS = SuperpixelSettings.for_patch(SIZE)


class InMemory:
    """As much of nnU-Net's dataset as is asked for."""

    source_folder = "nowhere"

    def __init__(self, cases: int, slices: int) -> None:
        from nnunet_xmodal.phantoms.organs import organ_phantom  # not for workers

        self.identifiers = [f"case{number}" for number in range(cases)]
        self.images = {}
        for number, case in enumerate(self.identifiers):
            image = organ_phantom(np.random.default_rng(number), "ct", (slices, *SIZE)).image
            self.images[case] = ((image - image.mean()) / image.std())[None]

    def load_case(self, case: str) -> tuple:
        """Return a case as nnU-Net's dataset does, with its image alone."""
        return self.images[case], None, None, {}


def loop(dataset: InMemory) -> dict[str, np.ndarray]:
    """Return the superpixels of all cases, made one after the other."""
    maps = {}
    for case, volume in dataset.images.items():
        intensities = intensity_range(volume)
        slices = [felzenszwalb_superpixels(volume[:, z], SETTINGS, intensities) for z in range(volume.shape[1])]
        maps[case] = np.stack(slices)
    return maps


def in_processes(dataset: InMemory, processes: int) -> tuple[float, dict[str, np.ndarray]]:
    """Return the seconds, and the maps as they are read back."""
    from nnunet_xmodal.tasks.few_shot.superpixel_cache import ensure_superpixels  # not for workers

    with tempfile.TemporaryDirectory() as folder:
        start = perf_counter()
        maps = ensure_superpixels(dataset, Path(folder), SETTINGS, processes, progress=False)
        seconds = perf_counter() - start
        slices = {case: range(len(counts)) for case, counts in maps.counts.items()}
        return seconds, {case: np.stack([maps.slice(case, z) for z in of]) for case, of in slices.items()}


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--slices", type=int, default=25, help="per case (at least 12)")
    parser.add_argument("--processes", type=int, nargs="+", default=[2])
    args = parser.parse_args()
    dataset = InMemory(args.cases, args.slices)
    start = perf_counter()
    expected = loop(dataset)
    alone = perf_counter() - start
    sizes = np.concatenate([np.bincount(z.ravel())[1:] for maps in expected.values() for z in maps])
    print(
        f"{args.cases * args.slices} slices of 256²: {alone:.1f} s in a loop; superpixels of {sizes.min()} to "
        f"{sizes.max()} pixels, median {np.median(sizes):.0f}"
    )
    for processes in args.processes:
        seconds, maps = in_processes(dataset, processes)
        assert all(np.array_equal(maps[case], expected[case]) for case in expected)
        print(f"{processes} processes: {seconds:.1f} s, {seconds / alone:.2f} of the loop")


if __name__ == "__main__":
    main()
