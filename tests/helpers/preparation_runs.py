"""Calls of nnUNetXModal_prepare on patients of two scans each, and what they wrote."""

import csv

import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.prepare import main

NAME = "Dataset510_Prostate"
T2W = ((28, 26, 12), (1.0, 1.1, 3.0))
ADC = ((18, 16, 14), (2.0, 2.0, 2.6))
USUAL = ("--channels", "T2W=t2w*", "ADC=adc*", "--label", "seg*", "--labels", "lesion=1")


def run(source, *flags, output=NAME, code=0):
    words = ["-i", str(source), "-o", output, "-np", "1", *map(str, flags)]
    if not code:
        return main(words)
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == code


def rows_of(raw, name=NAME):
    with open(raw / name / "prepare.csv", newline="") as file:
        return {(row["case"], row["channel"]): row for row in csv.DictReader(file)}


def image(raw, file, name=NAME):
    return sitk.ReadImage(str(raw / name / file))


def written(raw):
    return {file: file.stat().st_mtime_ns for file in sorted(raw.rglob("*.nii.gz"))}
