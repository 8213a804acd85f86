"""`--uncertainty` and `--temperature`: naive loops over folds and mirrored copies; labels stay what they were."""

import csv
import itertools
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.predict import predict

SHAPE = (2, 14, 12)


@pytest.fixture
def make_model(write_model, make_plans, make_dataset_json):
    """A model of several folds, and their networks."""

    def make(kind="labels", trainer="nnUNetTrainerAnyStreams", folds=2):
        plans = make_plans(2, streams=[[0], [1]], widths=(4, 8), patch_size=(8, 8))
        dataset_json = make_dataset_json(kind)
        manager = PlansManager(plans)
        heads = manager.get_label_manager(dataset_json).num_segmentation_heads
        build = getattr(trainers, trainer).build_network_architecture
        networks = [build(manager, manager.get_configuration("2d"), 2, heads, False) for _ in range(folds)]
        for network in networks:
            for parameter in network.decoder.seg_layers.parameters():
                parameter.data *= 20  # sure of something
        folder = write_model(trainer, plans, dataset_json, networks, mirrored=(0, 1))
        return folder, networks

    return make


@pytest.fixture
def run(tmp_path):
    def run(output, *flags, folds=(0, 1), trainer="nnUNetTrainerAnyStreams", step=1.0):
        words = ["-i", tmp_path / "in", "-o", tmp_path / output, "-d", "Dataset999_Tiny", "-c", "2d", "-tr", trainer]
        words += ["-f", *folds, "-device", "cpu", "-npp", 0, "-nps", 0, "-step_size", step, "--disable_progress_bar"]
        predict(request_of(parser().parse_args([str(word) for word in (*words, *flags)])))
        return tmp_path / output

    return run


@pytest.fixture
def image(tmp_path):
    """A case of one tile per slice, and what the network sees of it."""
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    seen = []
    for channel in range(2):
        array = rng.normal(100, 20, (2, 8, 8)).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "in" / f"anna_{channel:04d}.nii.gz"))
        seen.append((array - array.mean()) / array.std())
    return torch.from_numpy(np.stack(seen, 1))  # z C y x


def read(file):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def rows(folder, name="uncertainty"):
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def of_folds(networks, x, nonlinearity):
    """Mean over mirrored copies of each fold's probabilities, one after the other: `[fold]` `(K, z, y, x)`."""
    found = []
    for network in networks:
        total, copies = 0, [axes for n in range(3) for axes in itertools.combinations((2, 3), n)]
        for axes in copies:
            with torch.no_grad():
                total = total + nonlinearity(network.eval()(x.flip(axes)).flip(axes))
        found.append((total / len(copies)).transpose(0, 1))
    return found


@pytest.mark.parametrize("kind", ["labels", "regions"])
def test_maps_and_forecast_are_those_of_naive_loops(make_model, image, run, kind):
    _, networks = make_model(kind)
    folder = run("out", "--uncertainty")
    folds = of_folds(networks, image, torch.sigmoid if kind == "regions" else lambda z: z.softmax(1))
    mean = sum(folds) / 2

    def naive(p):
        total = 0.0
        for value in p.tolist():
            for share in (value, 1 - value) if kind == "regions" else (value,):
                total -= share * math.log(share) if share > 0 else 0
        return total

    entropies, information = read(folder / "uncertainty" / "anna_entropy.nii.gz"), []
    for position in np.ndindex(2, 8, 8):
        place = (slice(None), *position)
        assert entropies[position] == pytest.approx(naive(mean[place]), abs=1e-4)
        information.append(naive(mean[place]) - sum(naive(fold[place]) for fold in folds) / 2)
    np.testing.assert_allclose(
        read(folder / "uncertainty" / "anna_mutual_information.nii.gz").ravel(), information, atol=1e-4
    )
    assert max(information) > 0.01

    def labelled(p):
        if kind == "labels":
            return p.argmax(0).numpy()
        return np.where(p[1] > 0.5, 2, np.where(p[0] > 0.5, 1, 0))

    first, second = (labelled(fold) for fold in folds)
    for row, values in zip(rows(folder), [(1, 2), (2,)] if kind == "regions" else [(1,), (2,)]):
        one, other = np.isin(first, values), np.isin(second, values)
        expected = 2 * (one & other).sum() / (one.sum() + other.sum())
        assert float(row["forecast_dice"]) == pytest.approx(expected, rel=1e-5) and row["folds"] == "2"
        of_label = entropies[np.isin(labelled(mean), values)]
        assert len(of_label) and float(row["entropy"]) == pytest.approx(of_label.mean(), rel=1e-3)


def test_labels_and_probabilities_are_the_same_to_the_bit(make_model, image, run, tmp_path):
    make_model()
    for channel in range(2):  # several tiles that overlap
        array = np.random.default_rng(channel).normal(100, 20, SHAPE).astype(np.float32)
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / "in" / f"bert_{channel:04d}.nii.gz"))
    plain = run("plain", "--save_probabilities", step=0.5)
    with_maps = run("with_maps", "--save_probabilities", "--uncertainty", step=0.5)
    for case in ("anna", "bert"):
        assert np.array_equal(read(plain / f"{case}.nii.gz"), read(with_maps / f"{case}.nii.gz"))
        ours, theirs = (np.load(folder / f"{case}.npz")["probabilities"] for folder in (with_maps, plain))
        assert np.array_equal(ours, theirs)
    assert read(with_maps / "uncertainty" / "bert_entropy.nii.gz").shape == SHAPE
    assert [row["case"] for row in rows(with_maps)] == ["anna", "anna", "bert", "bert"]


def test_one_fold_forecasts_nothing_and_parts_and_missing_streams_have_their_rows(
    make_model, image, run, tmp_path, capsys
):
    make_model()
    folder = run("one", "--uncertainty", "-num_parts", 2, "-part_id", 0, folds=(0,))
    found = rows(folder, "uncertainty_part0of2")
    assert {row["forecast_dice"] for row in found} == {""}
    assert not read(folder / "uncertainty" / "anna_mutual_information.nii.gz").any()
    assert "one fold alone cannot disagree" in capsys.readouterr().err
    (tmp_path / "in" / "anna_0001.nii.gz").unlink()
    folder = run("missing", "--uncertainty", "--allow_missing")
    again = run("missing", "--uncertainty", "--allow_missing")
    assert len(rows(again)) == 2 and read(folder / "uncertainty" / "anna_entropy.nii.gz").shape == (2, 8, 8)


def test_columns_that_somebody_has_added_stay(make_model, image, run):
    make_model()
    file = run("out", "--uncertainty") / "uncertainty.csv"
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([f"{head},Looked At", *(f"{line},yes" for line in lines)]) + "\n")
    assert rows(run("out", "--uncertainty"))[0]["Looked At"] == "yes"
    assert file.read_text().splitlines() == [f"{head},Looked At", *(f"{line},yes" for line in lines)]


@pytest.mark.slow
def test_a_temperature_changes_probabilities_and_no_label(make_model, image, run):
    folder, networks = make_model()
    with pytest.raises(XModalError, match=r"temperature.json is missing: --temperature takes what"):
        run("refused", "--temperature")
    for content in ({}, {"temperature": 0}, {"temperature": "2"}, {"temperature": True}, [2]):
        (folder / "temperature.json").write_text(json.dumps(content))
        with pytest.raises(XModalError, match='holds no "temperature" above 0'):
            run("refused", "--temperature")
    (folder / "temperature.json").write_text(json.dumps({"temperature": 2.0}))
    plain = run("plain", "--save_probabilities", folds=(0,))
    cold = run("cold", "--save_probabilities", "--temperature", "--uncertainty", folds=(0,))
    assert np.array_equal(read(plain / "anna.nii.gz"), read(cold / "anna.nii.gz"))
    before, after = (np.load(f / "anna.npz")["probabilities"] for f in (plain, cold))
    expected = np.sqrt(before) / np.sqrt(before).sum(0)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    scaled = of_folds(networks[:1], image, lambda z: (z / 2).softmax(1))[0]
    entropies = read(cold / "uncertainty" / "anna_entropy.nii.gz")
    np.testing.assert_allclose(entropies, -torch.xlogy(scaled, scaled).sum(0), atol=1e-4)
