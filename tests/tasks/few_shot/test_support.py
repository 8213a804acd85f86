"""A support that users give, with classes of their own."""

import hashlib
import json

import numpy as np
import pytest
import torch
from few_shot_scans import (
    TISSUE,
    InMemory,
    run,
    scan,
)

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot.predictor import FewShotPredictor


class TestSupport:
    """Of classes that the model never saw."""

    def test_classes_never_seen_under_names_of_their_own_and_the_model_stays(self, make_model, write_support, tmp_path):
        folder = make_model(InMemory(scan(2, 3)))
        checkpoint = folder / "fold_0" / "checkpoint_final.pth"
        before = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
        labels = {"cyst": 1, "stone": 2, "stent": 3}
        support = write_support(labels, scan(6, 4, 5), label_of=lambda volume: np.maximum(volume - 3, 0))
        volume = scan(5, 2, 6)
        found = run(tmp_path, volume, "--support", support)
        np.testing.assert_array_equal(found, np.where(volume == 5, 2, np.where(volume == 6, 3, 0)))
        written = json.loads((tmp_path / "out" / "dataset.json").read_text())
        assert written["labels"] == {"background": 0, **labels}
        assert hashlib.sha256(checkpoint.read_bytes()).hexdigest() == before
        np.testing.assert_array_equal(run(tmp_path, scan(2, 3)), scan(2, 3) - TISSUE)

    def test_two_cases_are_two_shots_and_a_label_may_be_in_one_of_them(self, make_model, write_support):
        support = write_support(
            {"a": 1, "b": 2, "c": 3}, scan(4, 5), scan(4, 6), label_of=lambda volume: np.maximum(volume - 3, 0)
        )
        predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(make_model(InMemory(scan(2, 3)))), (0,))
        own = {key: value.clone() for key, value in predictor.network.state_dict().items()}
        lines = predictor.use_support(support, progress=False)
        network = predictor.network
        assert (network.labels, network.shots) == (3, 2) and network.support.exists.all()
        assert "own0" in lines[0] and "own1" in lines[0] and "own1" not in lines[1] and "own0" not in lines[2]
        for key, value in network.state_dict().items():
            assert key.startswith("support.") or torch.equal(value, own[key])
        volume = scan(6, 4, 5)
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(volume)[None])
        np.testing.assert_array_equal(logits.argmax(0).numpy(), np.maximum(volume - 3, 0))

    def test_folds_are_averaged_each_with_its_own_weights(self, make_model, write_support, tmp_path):
        folder = make_model(InMemory(scan(2, 3)), InMemory(scan(3, 2)), tints=(1.0, 2.0))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        found = run(tmp_path, scan(2, 5), "--support", support, folds=(0, 1))
        np.testing.assert_array_equal(found, scan(2, 5) == 5)
        predictor = FewShotPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(folder), (0, 1))
        predictor.use_support(support, progress=False)
        assert [parameters["backbone.tint"].item() for parameters in predictor.list_of_parameters] == [1, 2]
        first, second = predictor.list_of_parameters
        assert all(torch.equal(first[key], second[key]) for key in first if key.startswith("support."))

    def test_regions(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support(
            {"whole": [1, 2], "core": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0),
            regions_class_order=[1, 2],
        )  # fmt: skip
        volume = scan(2, 5, 4)
        found = run(tmp_path, volume, "--support", support)
        np.testing.assert_array_equal(found, np.maximum(volume - 3, 0))
        assert json.loads((tmp_path / "out" / "dataset.json").read_text())["labels"]["whole"] == [1, 2]

    def test_an_ignore_label_is_no_class(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support(
            {"stone": 1, "ignore": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0)
        )
        np.testing.assert_array_equal(run(tmp_path, scan(5, 4), "--support", support), scan(5, 4) == 4)

    @pytest.mark.parametrize("size, spacing", [((40, 50), 1.0), ((32, 32), 2.0), ((100, 90), 1.0)], ids=str)
    def test_a_support_of_another_size_spacing_and_format(self, make_model, write_support, tmp_path, size, spacing):
        make_model(InMemory(scan(2, 3)))
        volume = np.full((4, *size), TISSUE, np.float32)
        rows, columns = (slice(side // 2 - 8, side // 2 + 8) for side in size)
        volume[:, rows, columns] = 5
        support = write_support(
            {"stone": 1}, volume, label_of=lambda volume: volume == 5, ending=".mha", spacing=spacing
        )
        truth = scan(2, 5) == 5
        found = run(tmp_path, scan(2, 5), "--support", support)
        assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.99

    def test_a_label_that_no_case_shows_is_told_and_not_predicted(self, make_model, write_support, tmp_path, capsys):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1, "stent": 2}, scan(5), label_of=lambda volume: volume == 5)
        np.testing.assert_array_equal(run(tmp_path, scan(6, 5), "--support", support), scan(6, 5) == 5)
        said = capsys.readouterr().out
        assert "Support: label stent: no case shows it, it will not be predicted" in said
        assert "Support: label stone: own0 slice 1, own0 slice 3, own0 slice 5" in said

    def refused(self, support, sentence, tmp_path, channels=1):
        with pytest.raises(XModalError, match=sentence):
            run(tmp_path, scan(2, 3), "--support", support, channels=channels)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("missing", ["dataset.json", "imagesTr", "labelsTr"])
    def test_an_incomplete_folder(self, make_model, write_support, tmp_path, missing):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        (support / missing).rename(tmp_path / "elsewhere")
        self.refused(support, f"{missing} is missing: --support takes a folder like a raw dataset", tmp_path)

    @pytest.mark.parametrize(
        "change, sentence",
        [
            ({"labels": {"background": 0}}, "names no label but background: name what is to be segmented"),
            ({"labels": {"background": 0, "ignore": 1}}, "names no label but background: name what"),
            ({"numTraining": 3}, "says numTraining 3 but .* holds 1 cases"),
            ({"channel_names": None}, 'has no "channel_names", which nnU-Net needs'),
        ],
    )
    def test_a_description_that_does_not_fit(self, make_model, write_support, tmp_path, change, sentence):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        described = json.loads((support / "dataset.json").read_text()) | change
        described = {key: value for key, value in described.items() if value is not None}
        (support / "dataset.json").write_text(json.dumps(described))
        self.refused(support, sentence, tmp_path)

    def test_a_broken_description(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5)
        (support / "dataset.json").write_text("{")
        self.refused(support, "is not valid JSON", tmp_path)

    def test_empty_masks(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=np.zeros_like)
        self.refused(support, "no case of .*support shows any of its labels: label one", tmp_path)

    def test_a_value_that_no_label_has(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: 7 * (volume == 5))
        self.refused(support, "own0.nii.gz holds the label 7, which dataset.json does not name", tmp_path)

    def test_other_channels(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"stone": 1}, scan(5), label_of=lambda volume: volume == 5, channels=2)
        self.refused(support, r"has 2 channels and the model reads 1 \(T1\): support and images need", tmp_path)

    def test_nan(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        volume = scan(5)
        volume[0, 0, 0] = np.nan
        support = write_support({"stone": 1}, volume, label_of=lambda volume: volume == 5)
        self.refused(support, "own0_0000.nii.gz holds NaN or infinite voxels", tmp_path)
