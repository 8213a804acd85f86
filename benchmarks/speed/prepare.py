"""Seconds for nnUNetXModal_prepare with 200 small cases, in one process and in two.

    python benchmarks/speed/prepare.py
    python benchmarks/speed/prepare.py --cases 40 --processes 1 2 4

A case is a T2W of 64 × 64 × 16, an ADC of 32 × 32 × 16 and a label; figures and records are written, too. Times include
the start of the processes, each of one thread. Two processes on two idle cores are to be at least 1.5 times as fast.
"""

import argparse
import contextlib
import io
import os
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import SimpleITK as sitk

from nnunet_xmodal.commands.prepare import main as prepare
from nnunet_xmodal.files.volume_writer import write_volume


def write_cases(folder: Path, cases: int) -> None:
    """Write noise and a box, each scan on a grid of its own."""
    rng = np.random.default_rng(0)
    for number in range(cases):
        patient = folder / f"case{number:03d}"
        patient.mkdir(parents=True)
        for name, side, spacing in (("t2w", 64, 1.0), ("adc", 32, 2.0)):
            image = sitk.GetImageFromArray(rng.integers(0, 1000, (16, side, side)).astype(np.int16))
            image.SetSpacing((spacing, spacing, 3.0))
            write_volume(image, patient / f"{name}.mha")
        label = np.zeros((16, 64, 64), np.uint8)
        label[5:10, 20:40, 20:40] = 1
        image = sitk.GetImageFromArray(label)
        image.SetSpacing((1.0, 1.0, 3.0))
        write_volume(image, patient / "lesion.nii.gz")


def main() -> None:
    """Run the benchmark; see the module."""
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--cases", type=int, default=200)
    p.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["nnUNet_raw"] = str(Path(folder) / "raw")
        write_cases(Path(folder) / "scans", args.cases)
        words = ["-i", f"{folder}/scans", "--channels", "T2W=t2w*", "ADC=adc*", "--label", "lesion*", "--labels"]
        first = None
        for processes in args.processes:
            begin = perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                prepare([*words, "lesion=1", "-o", f"Dataset{processes:03d}_Small", "-np", str(processes)])
            seconds = perf_counter() - begin
            first = first or seconds
            print(f"{processes} processes: {seconds:.1f} s for {args.cases} cases, ratio {first / seconds:.2f}")


if __name__ == "__main__":
    main()
