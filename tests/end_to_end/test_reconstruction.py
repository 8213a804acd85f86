"""Susceptibility maps by real commands: planned, trained, validated, compared with baselines, predicted, shared."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.evaluation.reconstruction import DIRECTIONS
from nnunet_xmodal.phantoms.heads import write_susceptibility_dataset
from nnunet_xmodal.physics.units import one_ppm_in

pytestmark = pytest.mark.slow

DATASET, PLANS, UNET_PLANS = "Dataset952_Susceptibility", "nnUNetReconstructionPlans", "nnUNetReconstructionUNetPlans"
BACKBONE, FOLDED = (f"nnUNetTrainerQSM{name}_2epochs_2its" for name in ("", "FA"))
BASELINES = Path(__file__).parents[2] / "benchmarks" / "experiments" / "susceptibility_baselines.py"
MODEL = ("-d", 952, "-p", PLANS, "-c", "3d_fullres", "-tr", FOLDED, "-device", "cpu")


@pytest.fixture(scope="module")
def trained(make_workspace, narrow):
    """Five heads on small patches, two trainers on fold 0 with narrow networks."""
    space = make_workspace("reconstruction")
    write_susceptibility_dataset(space.raw / DATASET, 5, 2, 0, shape=(24, 32, 32), spacing=(3.0, 2.0, 2.0))
    space.plan(952, "-pl", "ReconstructionPlanner", "--patch", 16, 16, 32, "-c", "3d_fullres")
    narrow(space.plans_file(DATASET, PLANS))
    for trainer in (BACKBONE, FOLDED):
        train(space, trainer)
    return space


def train(space, trainer: str, *more, plans: str = PLANS) -> None:
    space.run("nnUNetv2_train", 952, "3d_fullres", 0, "-tr", trainer, "-p", plans, "-device", "cpu", *more)


def fold_of(space, trainer: str = FOLDED, plans: str = PLANS) -> Path:
    return space.model(DATASET, trainer, "3d_fullres", plans) / "fold_0"


def summary_of(space, trainer: str = FOLDED, plans: str = PLANS) -> dict:
    return json.loads((fold_of(space, trainer, plans) / "validation" / "summary.json").read_text())


def read(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


@pytest.mark.parametrize("trainer", [BACKBONE, FOLDED])
def test_the_final_validation_measures_every_case(trained, trainer):
    summary = summary_of(trained, trainer)
    splits = json.loads((trained.preprocessed / DATASET / "splits_final.json").read_text())
    cases = [Path(content["prediction_file"]) for content in summary["metric_per_case"]]
    assert [file.name for file in cases] == [f"{case}.nii.gz" for case in splits[0]["val"]]
    ((key, means),) = summary["mean"].items()
    assert key == "1" and set(means) == set(DIRECTIONS) and np.isfinite(list(means.values())).all()
    assert summary["xmodal"]["directions"] == DIRECTIONS
    raw = trained.raw / DATASET
    made, reference = sitk.ReadImage(str(cases[0])), sitk.ReadImage(str(raw / "labelsTr" / cases[0].name))
    assert made.GetSize() == reference.GetSize() and made.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_allclose(made.GetDirection(), reference.GetDirection(), atol=1e-6)
    mask = sitk.GetArrayFromImage(reference) > 0
    assert (sitk.GetArrayFromImage(made)[~mask] == 0).all()
    assert (cases[0].parent / f"{splits[0]['val'][0]}.png").is_file()
    log = "".join(file.read_text() for file in fold_of(trained, trainer).glob("training_log_*.txt"))
    assert "Streams: field" in log and "Learns susceptibility from field" in log and "Validation complete" in log


def test_it_is_validated_again_and_continued(trained):
    fold = fold_of(trained, BACKBONE)
    before = summary_of(trained, BACKBONE)["mean"]["1"]
    shutil.rmtree(fold / "validation")
    train(trained, BACKBONE, "--val")
    assert summary_of(trained, BACKBONE)["mean"]["1"] == pytest.approx(before, rel=1e-6)
    (fold / "checkpoint_best.pth").rename(fold / "checkpoint_latest.pth")
    (fold / "checkpoint_final.pth").unlink()
    train(trained, BACKBONE, "--c")
    assert (fold / "checkpoint_final.pth").is_file()


def test_the_comparison_tabulates_trainers_and_baselines(trained, tmp_path):
    trained.run(sys.executable, BASELINES, "-d", 952, "-f", 0)
    trained.run("nnUNetXModal_compare", "-d", 952, "-c", "3d_fullres", "-p", PLANS, "-f", 0, "-o", tmp_path,
                "-tr", BACKBONE, FOLDED, "TKD", "Tikhonov", "TV")  # fmt: skip
    header, *rows = (tmp_path / "cases.csv").read_text().splitlines()
    assert set(DIRECTIONS) <= set(header.split(",")) and len(rows) == 5 and ",brain," in rows[0]
    table = (tmp_path / "summary.md").read_text()
    assert "RMSE_percent ↓" in table and all(f"| {name} " in table for name in ("TKD", "Tikhonov", "TV"))


def test_maps_of_fields_in_another_unit_and_without_a_mask(trained, tmp_path):
    heads, hertz = trained.raw / DATASET / "imagesTs", tmp_path / "hertz"
    hertz.mkdir()
    for file in heads.iterdir():
        image = sitk.ReadImage(str(file))
        sitk.WriteImage(image * one_ppm_in("Hz", 3.0), str(hertz / file.name))
    predict = ("nnUNetXModal_predict", *MODEL, "-f", 0)
    trained.run(*predict, "-i", heads, "-o", tmp_path / "out", "--mask", trained.raw / DATASET / "labelsTs")
    trained.run(*predict, "-i", hertz, "-o", tmp_path / "same", "--field_unit", "Hz", "--B0", 3, "-npp", 0, "-nps", 0)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"head_ts{number:03d}{ending}" for number in range(2) for ending in (".nii.gz", ".png")]
    for name in names[::2]:
        ours, again = read(tmp_path / "out" / name), read(tmp_path / "same" / name)
        inside = read(trained.raw / DATASET / "labelsTs" / name) > 0
        np.testing.assert_allclose(ours[inside], again[inside], rtol=1e-3, atol=1e-5)
        assert (ours[~inside] == 0).all() and np.abs(ours).max() > 0
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").iterdir()}
    trained.run(*predict, "-i", heads, "-o", tmp_path / "out", "--continue_prediction")
    assert {file: file.stat().st_mtime_ns for file in before} == before


def test_mistakes_are_a_sentence_and_leave_nothing(trained, tmp_path):
    raw, out = trained.raw / DATASET, tmp_path / "out"
    predict = ("nnUNetXModal_predict", *MODEL, "-f", 0, "-o", out, "-i")
    said = trained.run(*predict, raw / "imagesTr", fails=True)
    assert "has the number of the target (susceptibility), which this model predicts" in said.splitlines()[-1]
    said = trained.run(*predict, raw / "imagesTs", "--field_unit", "rad", "--B0", 3, fails=True)
    assert "error: a field in rad needs the echo time (TE) in s" in said.splitlines()[-1]
    said = trained.run(*predict, raw / "imagesTs", "--init", "geometry", fails=True)
    assert "--init does not apply to models of" in said.splitlines()[-1]
    stock = ("nnUNetv2_predict", *MODEL, "-f", 0, "-o", out, "-i", raw / "imagesTs")
    assert "use nnUNetXModal_predict with the same flags" in trained.run(*stock, fails=True).splitlines()[-1]
    assert not list(out.glob("*.nii.gz"))


def test_planning_looks_at_masks_and_numbers_first(trained, tmp_path):
    space = type(trained)(tmp_path)
    shutil.copytree(trained.raw / DATASET, space.raw / DATASET)
    plan = ("nnUNetXModal_plan_and_preprocess", "-d", 952, "-npfp", 1, "--no_pbar", "-pl")
    for arguments, sentence in (
        (("ReconstructionPlanner", "--patch", 15, 16, 32), "--patch 15 16 32 cannot be halved 4 times"),
        (("ReconstructionPlanner", "--field_unit", "Hz"), "needs the strength of the main field (B0)"),
        (("XModalPlanner", "--TE", 0.02), "--TE does not apply to XModalPlanner: take one of ReconstructionPlanner"),
    ):
        assert sentence in space.run(*plan, *arguments, fails=True).splitlines()[-1]
    mask = space.raw / DATASET / "labelsTr" / "head_tr001.nii.gz"
    image = sitk.ReadImage(str(mask))
    sitk.WriteImage(image * 0, str(mask))
    said = space.run(*plan, "ReconstructionPlanner", fails=True).splitlines()[-1]
    assert "head_tr001.nii.gz is empty: draw the brain in it" in said
    sitk.WriteImage(image[:-1], str(mask))
    said = space.run(*plan, "ReconstructionPlanner", fails=True).splitlines()[-1]
    assert "head_tr001.nii.gz has the size" in said and "resample them onto one grid" in said
    assert not list(space.preprocessed.iterdir())


def test_a_target_in_ppb_is_told_when_training_begins(trained, narrow, tmp_path):
    space = type(trained)(tmp_path)
    shutil.copytree(trained.raw / DATASET, space.raw / DATASET)
    for file in (space.raw / DATASET / "imagesTr").glob("*_0001.nii.gz"):
        sitk.WriteImage(sitk.ReadImage(str(file)) * 1000, str(file))
    space.plan(952, "-pl", "ReconstructionPlanner", "--patch", 16, 16, 32, "-c", "3d_fullres")
    narrow(space.plans_file(DATASET, PLANS))
    said = space.run("nnUNetv2_train", 952, "3d_fullres", 0, "-tr", BACKBONE, "-p", PLANS, "-device", "cpu", fails=True)
    assert any("looks like ppb, not ppm: divide the target by 1000" in line for line in said.splitlines()[-3:])


def test_nnunets_own_network_is_planned_and_trained(trained, narrow):
    trained.plan(952, "-pl", "ReconstructionUNetPlanner", "--patch", 16, 16, 32, "-c", "3d_fullres")
    narrow(trained.plans_file(DATASET, UNET_PLANS))
    train(trained, FOLDED, plans=UNET_PLANS)
    assert np.isfinite(summary_of(trained, FOLDED, UNET_PLANS)["mean"]["1"]["RMSE_percent"])


def test_it_is_shared_as_a_zip(trained, tmp_path):
    archive, results = tmp_path / "model.zip", tmp_path / "elsewhere"
    results.mkdir()
    trained.run("nnUNetv2_export_model_to_zip", "-d", 952, "-o", archive, "-c", "3d_fullres", "-tr", FOLDED, "-p",
                PLANS, "-f", 0, "--not_strict")  # fmt: skip
    alone = {"nnUNet_results": str(results), "nnUNet_raw": None, "nnUNet_preprocessed": None}
    trained.run("nnUNetv2_install_pretrained_model_from_zip", archive, **alone)
    trained.run("nnUNetXModal_predict", "-i", trained.raw / DATASET / "imagesTs", "-o", tmp_path / "out", *MODEL[2:],
                "-d", DATASET, "-f", 0, **alone)  # fmt: skip
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2
