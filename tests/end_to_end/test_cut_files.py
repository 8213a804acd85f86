"""The same command again makes again what nnU-Net writes in place and was cut off."""

import shutil

import pytest

pytestmark = pytest.mark.slow

DATASET = "Dataset901_Phantom"


def test_planning_over_files_that_were_cut_off(phantoms, make_workspace):
    space = make_workspace("cut")
    shutil.copytree(phantoms, space.raw / DATASET)
    plan = ("nnUNetXModal_plan_and_preprocess", "-d", 901, "-c", "2d", "-npfp", 1, "-np", 1)
    folder = space.preprocessed / DATASET
    space.run(*plan)
    label = next(iter(sorted((folder / "gt_segmentations").iterdir())))
    files = [folder / "dataset_fingerprint.json", folder / "nnUNetPlans.json", folder / "dataset.json", label]
    before = [file.read_bytes() for file in files]
    for file, content in zip(files, before):
        file.write_bytes(content[: len(content) // 2])
    printed = space.run(*plan)
    assert [file.read_bytes() for file in files] == before
    for file in (files[0], files[1], label):
        assert f"{file} is cut off or damaged: it is made again." in printed
