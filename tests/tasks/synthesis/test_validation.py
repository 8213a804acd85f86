"""The final validation of generators: a word where a translation is worse than none."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.tasks.synthesis import validation as synthesis_validation
from nnunet_xmodal.tasks.synthesis.validation import validate_synthesis

ARCHITECTURE = {
    "n_stages": 1,
    "features_per_stage": [2],
    "conv_op": nn.Conv2d,
    "kernel_sizes": [3],
    "strides": [1],
    "n_conv_per_stage": [1],
    "n_conv_per_stage_decoder": [],
}
CASES = ["0", "1"]


class Dataset:
    """Channels X, noise; Y, X inverted and a little noise; Z, X and a little noise."""

    source_folder = "preprocessed"

    def load_case(self, case):
        rng = np.random.default_rng(int(case))
        noise = rng.normal(size=(3, 1, 20, 20)).astype(np.float32)
        data = np.array([1, -1, 1], np.float32).reshape(3, 1, 1, 1) * noise[0] + 0.3 * noise
        return data, np.zeros((1, 1, 20, 20), np.int16), None, {}


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """`(streams, what networks make of a batch)` → lines of the log and `xmodal` of the summary."""
    for name in ("images_in_native_geometry", "write_images", "draw_synthesis"):
        monkeypatch.setattr(synthesis_validation, name, lambda *_: None)

    def validate(streams, made, pair=GeneratorPair.of_transition):
        class Predictor:
            network, plans_manager, configuration_manager = pair(streams, **ARCHITECTURE), None, None
            dataset_json = {
                "channel_names": {"0": "X", "1": "Y", "2": "Z"},
                "labels": {"background": 0, "anything": 1},
                "file_ending": ".nii.gz",
            }

            def predict_sliding_window_return_logits(self, data):
                return made(data)

        lines = []
        means = validate_synthesis(Predictor(), Dataset(), CASES, tmp_path, lines.append)
        summary = json.loads((tmp_path / "validation" / "summary.json").read_text())
        assert all(case["untranslated"].keys() == summary["xmodal"]["untranslated"].keys()
                   for case in summary["metric_per_case"])  # fmt: skip
        return means, [line for line in lines if "WARNING" in line], summary["xmodal"]

    return validate


STREAMS = [[[0, 2], [1]], [[1], [2, 0]]]


def there_and_back(*signs):
    """What is made of the real images themselves, with these signs, and cycles that are perfect."""
    return lambda data: torch.cat((data * torch.tensor(signs).reshape(3, 1, 1, 1), data))


@pytest.mark.parametrize("streams", STREAMS, ids=str)
def test_perfect_translations_are_not_warned_of(validate, streams):
    means, warnings, told = validate(streams, there_and_back(1, 1, 1))
    assert means["A_to_B_SSIM"] == pytest.approx(1) and set(told["untranslated"]) == {"A_to_B_SSIM", "B_to_A_SSIM"}
    assert max(told["untranslated"].values()) < 0 and warnings == told["warnings"] == []


def test_streams_that_are_alike_want_more_than_an_inverted_copy(validate):
    """X and Z are alike: what is inverted is worse than no translation, in both directions."""
    means, warnings, told = validate([[0, 1], [2]], there_and_back(1, 1, -1))
    assert told["untranslated"]["A_to_B_SSIM"] > 0.5 > 0 > means["A_to_B_SSIM"]
    assert len(warnings) == 1 and "What is made of A is less similar to B" in warnings[0]
    assert told["warnings"] == [warnings[0].removeprefix("WARNING: ")]
    _, both, _ = validate([[0, 1], [2]], there_and_back(-1, -1, -1))
    assert len(both) == 2


def test_self_reconstruction_has_nothing_to_compare_with(validate):
    _, warnings, told = validate([[0, 1], [2]], lambda data: -data, GeneratorPair.of_reconstruction)
    assert told["untranslated"] == {} and told["warnings"] == warnings == []
