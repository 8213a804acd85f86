"""Seconds for all metrics of a comparison of trainers, beside MONAI's HD95 and ASSD in a loop, and memory per worker.

    python benchmarks/speed/case_metrics.py
    python benchmarks/speed/case_metrics.py --volumes 4 --trainers 1 --processes 1 2 4

Volumes are as in BraTS, 155×240×240 voxels of 1 mm with three nested regions, a whole tumour of about 100 ml; a
trainer's prediction is the reference with its borders moved by smooth noise. Nothing is written outside a temporary
folder.

First in workers, which read label maps from disk as the command's do; the time includes their start. Then against MONAI
in one process of one thread: both take turns case by case, so that a busy machine slows both, and start from arrays in
memory. MONAI's masks of one region each are made outside of its time, and it computes two metrics where we compute all.
CPU seconds are what the work takes, whatever else the machine does.
"""

import argparse
import multiprocessing
import os
import resource
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter, process_time

# a worker, or MONAI, is one thread: what is compared is work, not cores
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np  # noqa: E402
from scipy.ndimage import zoom  # noqa: E402

from nnunet_xmodal.evaluation.case_metrics import case_metrics  # noqa: E402

SHAPE, SPACING = (155, 240, 240), (1.0, 1.0, 1.0)
REGIONS = {"whole tumour": (1, 2, 3), "tumour core": (1, 3), "enhancing tumour": (3,)}
_RADII = ((1.0, 2), (0.7, 1), (0.5, 3))  # of the nested labels, relative to the whole tumour's


def smooth_noise(rng: np.random.Generator, shape: tuple[int, ...], length: int) -> np.ndarray:
    """Draw Gaussian noise of unit variance that varies over about `length` voxels."""
    coarse = [-(-size // length) + 3 for size in shape]
    noise = zoom(rng.standard_normal(coarse).astype(np.float32), np.divide(shape, coarse), order=3)
    return noise / noise.std()


def relative_radius(rng: np.random.Generator, shape: tuple[int, ...], ml: float) -> np.ndarray:
    """Draw what is below 1 inside of a lumpy tumour of about `ml` millilitres at a random place."""
    radius = (ml * 1000 * 3 / (4 * np.pi)) ** (1 / 3)
    centre = [size * rng.uniform(0.35, 0.65) for size in shape]
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(axes, centre)))
    return (distance / radius).astype(np.float32) + 0.2 * smooth_noise(rng, shape, 10)


def labels_of(radius: np.ndarray) -> np.ndarray:
    """Return the label map of a relative radius: labels one within the other."""
    label_map = np.zeros(radius.shape, np.uint8)
    for below, label in _RADII:
        label_map[radius < below] = label
    return label_map


def write_cases(folder: Path, volumes: int, trainers: int, shape: tuple[int, ...]) -> list[tuple[Path, Path]]:
    """Write pairs of files (prediction, reference)."""
    rng = np.random.default_rng(0)
    pairs = []
    for volume in range(volumes):
        radius = relative_radius(rng, shape, ml=rng.uniform(60, 140))
        reference = folder / f"{volume}.npy"
        np.save(reference, labels_of(radius))
        for trainer in range(trainers):
            prediction = folder / f"{volume}_{trainer}.npy"
            # smooth errors of the border, and a grain that makes the surface rough and leaves a few specks
            errors = 0.08 * smooth_noise(rng, shape, 8) + 0.015 * rng.standard_normal(shape, dtype=np.float32)
            np.save(prediction, labels_of(radius + errors))
            pairs.append((prediction, reference))
    return pairs


def in_worker(pair: tuple[Path, Path]) -> tuple[float, int]:
    """Return the CPU seconds of a case, and the peak of this process's memory in MiB."""
    start = process_time()
    prediction, reference = (np.load(file) for file in pair)
    case_metrics(prediction, reference, SPACING, REGIONS)
    return process_time() - start, peak_mib()


def peak_mib() -> int:
    """Return the peak of this process's memory in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage, on Linux, tells a started process the peak of the one that started it
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if "VmHWM" in line) // 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20  # macOS: bytes


def time_workers(pairs: list[tuple[Path, Path]], processes: int) -> tuple[float, float, int]:
    """Return the seconds until the last case is there, CPU seconds of all, peak MiB of a worker."""
    start = perf_counter()
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(in_worker, pairs))
    return perf_counter() - start, sum(cpu for cpu, _ in results), max(peak for _, peak in results)


def take_turns(pairs: list[tuple[Path, Path]]) -> tuple[list[dict], list[dict], np.ndarray]:
    """Return our metrics, MONAI's HD95 and ASSD, and seconds `(cases, (ours, MONAI), (wall, CPU))`."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    torch.set_num_threads(1)

    def monai(*masks: torch.Tensor) -> dict:
        hd95 = compute_hausdorff_distance(*masks, include_background=True, percentile=95, spacing=SPACING)
        assd = compute_average_surface_distance(*masks, include_background=True, symmetric=True, spacing=SPACING)
        return {label: {"HD95": float(hd95[0, i]), "ASSD": float(assd[0, i])} for i, label in enumerate(REGIONS)}

    found, expected, seconds = [], [], []
    for files in pairs:
        label_maps = [np.load(file) for file in files]
        # (1, regions, z, y, x)
        masks = [
            torch.from_numpy(np.stack([np.isin(label_map, values) for values in REGIONS.values()])[None])
            for label_map in label_maps
        ]
        times = [(perf_counter(), process_time())]
        found.append(case_metrics(label_maps[0], label_maps[1], SPACING, REGIONS))
        times.append((perf_counter(), process_time()))
        expected.append(monai(*masks))
        times.append((perf_counter(), process_time()))
        seconds.append(np.diff(times, axis=0))
    return found, expected, np.array(seconds)


def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--volumes", type=int, default=20)
    parser.add_argument("--trainers", type=int, default=3)
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 1], help="numbers of workers to measure")
    parser.add_argument("--without-monai", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pairs = write_cases(Path(folder), arguments.volumes, arguments.trainers, tuple(arguments.shape))
        print(f"{len(pairs)} label maps of {'×'.join(map(str, arguments.shape))}, 3 regions, all metrics\n")
        print("| workers | seconds | CPU seconds | peak MiB of a worker |\n|--:|--:|--:|--:|")
        for processes in arguments.processes:
            wall, cpu, peak = time_workers(pairs, processes)
            print(f"| {processes} | {wall:.1f} | {cpu:.1f} | {peak:,} |")
        if not arguments.without_monai:
            compare(*take_turns(pairs))


def compare(found: list[dict], expected: list[dict], seconds: np.ndarray) -> None:
    """Print the seconds of both, and how far their metrics differ."""
    print("\n| in turn, one thread | seconds | CPU seconds | CPU seconds per case, median |\n|---|--:|--:|--:|")
    for row, name in enumerate(("all metrics", "MONAI: HD95 and ASSD")):
        wall, cpu = seconds[:, row].sum(axis=0)
        print(f"| {name} | {wall:.1f} | {cpu:.1f} | {np.median(seconds[:, row, 1]):.3f} |")
    ratio_wall, ratio_cpu = seconds[:, 1].sum(axis=0) / seconds[:, 0].sum(axis=0)
    print(f"\nMONAI takes {ratio_wall:.1f} times as long, and {ratio_cpu:.1f} times the CPU seconds.")
    difference = max(
        abs(ours[label][name] - theirs[label][name])
        for ours, theirs in zip(found, expected)
        for label in REGIONS
        for name in ("HD95", "ASSD")
    )
    print(f"Largest difference of HD95 and ASSD, which MONAI computes in single precision: {difference:.1e} mm")
    for label in REGIONS:
        dice = np.mean([case[label]["Dice"] for case in found])
        volume = np.mean([case[label]["reference_volume_ml"] for case in found])
        print(f"{label}: {volume:.0f} ml, Dice {100 * dice:.0f} %")


if __name__ == "__main__":
    main()
