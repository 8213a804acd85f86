"""Division in k-space is compared with networks on equal terms: benchmarks/experiments/susceptibility_baselines.py."""

import json
import runpy
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fast_ones import one_fast_in

from nnunet_xmodal.datasets.target_channel import TargetChannel
from nnunet_xmodal.evaluation.reconstruction import relative_error
from nnunet_xmodal.phantoms.heads import susceptibility_phantom
from nnunet_xmodal.physics.measured_field import MeasuredField
from nnunet_xmodal.tasks.reconstruction.validation import read_case

GRID = {"shape": (24, 32, 32), "spacing": (5.0, 5.0, 5.0)}
FILE = Path(__file__).parents[3] / "benchmarks" / "experiments" / "susceptibility_baselines.py"


@pytest.fixture(scope="module")
def benchmark():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FILE.parent)  # as when it is run
        return SimpleNamespace(**runpy.run_path(str(FILE)))


class Heads:
    """A preprocessed dataset whose maps are counted from `reference` ppm."""

    def __init__(self, reference: float):
        self.reference = reference

    def load_case(self, name: str):
        head = susceptibility_phantom(np.random.default_rng(int(name)), **GRID)
        mask = head.mask > 0
        properties = {
            "sitk_stuff": {"direction": head.direction_cosines.ravel().tolist()},
            "spacing": GRID["spacing"],
            "shape_after_cropping_and_before_resampling": GRID["shape"],
        }
        data = np.stack((head.field, np.where(mask, head.susceptibility - self.reference, 0)))
        return data, head.mask[None].astype(np.int16), None, properties


@pytest.mark.parametrize("name", one_fast_in(3, ["TKD", "Tikhonov", "TV"]))
def test_it_does_not_matter_what_the_maps_of_a_dataset_are_counted_from(benchmark, name, tmp_path):
    maps, constants = [], []
    for reference in (0.0, 0.1):
        method = object.__new__(getattr(benchmark, name))  # a whole trainer needs a dataset on disk
        heads = Heads(reference)
        vars(method).update(
            do_split=lambda: (["0", "1"], ["2"]),
            dataset_class=lambda folder, names, heads=heads: heads,
            preprocessed_dataset_folder=None,
            parameters=method.parameters[3:4],  # the best one may be another: errors are relative to the map's size
            options=Namespace(training_cases=10),
            label_manager=SimpleNamespace(ignore_label=None),
            plans_manager=SimpleNamespace(transpose_forward=[0, 1, 2]),
            target=TargetChannel(1),
            field=MeasuredField(),
            device=torch.device("cpu"),
            output_folder=str(tmp_path),
            print_to_log_file=print,
        )
        case = read_case(heads, "2", TargetChannel(1), None)
        made = method.method()(case)
        record = json.loads((tmp_path / "parameter.json").read_text())
        constants.append(record["constant"])
        assert relative_error(made, case.target, case.mask) < 80
        maps.append(made[case.mask] + reference)
    assert constants[1] - constants[0] == pytest.approx(-0.1, abs=1e-6)
    assert abs(constants[0]) < (0.02 if name == "TV" else 0.002)  # division makes the mean of the padded grid 0
    np.testing.assert_allclose(*maps, atol=1e-6)
