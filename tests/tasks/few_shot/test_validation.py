"""The paper's protocol on validation cases, with features that are the intensities themselves."""

import json

import numpy as np
import pytest
import torch
from few_shot_scans import (
    SIZE,
    TISSUE,
    InMemory,
    ordered,
    scan,
)
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_xmodal import trainers
from nnunet_xmodal.tasks.few_shot.support import fill_support, labels_to_segment
from nnunet_xmodal.tasks.few_shot.validation import METRIC, add_protocol, protocol_dice


@pytest.fixture
def network_for(make_plans, make_dataset_json):
    """`(support, kind)` → network that holds it, and the label manager."""

    def make(support, kind="labels"):
        plans = make_plans(2, channels=1, patch_size=SIZE)
        plans["xmodal"] = {"regions": kind.startswith("regions")}
        arguments = {"size": list(SIZE), "chunks": 3, "shots": 1}
        plans["configurations"]["2d"]["architecture"]["arch_kwargs"] = arguments
        manager = PlansManager(plans)
        labels = manager.get_label_manager(make_dataset_json(kind, 1))
        network = trainers.nnUNetTrainerPANetR18.build_network_architecture(
            manager, manager.get_configuration("2d"), 1, labels.num_segmentation_heads, False
        )
        fill_support(network, support, labels)
        return network.eval(), labels

    return make


def dice_of(network, labels, dataset, case="case0"):
    return protocol_dice(
        network, torch.device("cpu"), dataset, case, labels_to_segment(labels), labels.ignore_label
    )  # fmt: skip


class TestProtocol:
    def test_an_ideal_network_has_a_dice_of_1(self, network_for):
        dataset = InMemory(scan(2, 3, slices=11))
        network, labels = network_for(dataset)
        assert dice_of(network, labels, dataset) == {"1": 1.0, "2": 1.0}

    def test_regions_are_measured_as_regions(self, network_for):
        dataset = InMemory(scan(2, 3))
        network, labels = network_for(dataset, "regions")
        assert dice_of(network, labels, dataset) == {"(1, 2)": 1.0, "2": 1.0}

    def test_an_organ_that_a_case_does_not_show_is_nan(self, network_for):
        network, labels = network_for(InMemory(scan(2, 3)))
        found = dice_of(network, labels, InMemory(scan(3)))
        assert np.isnan(found["1"]) and found["2"] == 1

    def test_an_organ_without_support_is_not_found(self, network_for):
        network, labels = network_for(InMemory(scan(2)))
        assert dice_of(network, labels, InMemory(scan(2, 3))) == {"1": 1.0, "2": 0.0}

    def test_slices_outside_of_the_organs_extent_are_not_scored(self, network_for):
        """There the network is wrong; a gap inside counts."""
        volume = scan(2, 3, slices=10)

        def label_of(hidden):
            def only(volume):
                label = volume - TISSUE
                label[hidden] = 0
                return label

            return only

        network, labels = network_for(InMemory(volume))
        assert dice_of(network, labels, InMemory(volume, label_of=label_of([0, 1, 8, 9]))) == {"1": 1.0, "2": 1.0}
        gap = dice_of(network, labels, InMemory(volume, label_of=label_of([4])))
        assert gap == pytest.approx({"1": 18 / 19, "2": 18 / 19})

    def test_the_chunk_is_that_of_the_organ_and_not_of_the_scan(self, network_for):
        """Support and query have the organ in different parts of their scans."""
        support = np.concatenate((scan(2, 4, 5), scan(slices=6)))
        query = np.concatenate((scan(slices=9), scan(2, 4, 5, slices=9)))

        def within(begin, end):
            def label_of(volume):
                label = np.zeros(volume.shape)
                label[begin:end] = ordered(volume[begin:end])
                return label

            return label_of

        network, labels = network_for(InMemory(support, label_of=within(0, 6)))
        assert dice_of(network, labels, InMemory(query, label_of=within(9, 18)))["1"] == 1

    def test_ignored_pixels_are_not_scored(self, network_for):
        network, labels = network_for(InMemory(scan(2, 3)), "labels+ignore")

        def label_of(volume):
            label = volume - TISSUE
            label[:, 8:24] = 3
            return label

        assert labels.ignore_label == 3
        assert dice_of(network, labels, InMemory(scan(2, 3), label_of=label_of)) == {"1": 1.0, "2": 1.0}

    @pytest.mark.parametrize("size", [(48, 70), (90, 64)], ids=str)
    def test_scans_of_another_size_than_the_patch(self, network_for, size):
        """What the patch cuts off counts as missed."""
        volume = np.full((4, *size), TISSUE, np.float32)
        volume[:, :, 30:40] = 2
        dataset = InMemory(volume)
        network, labels = network_for(dataset)
        seen = min(size[0], SIZE[0]) / size[0]
        assert dice_of(network, labels, dataset)["1"] == pytest.approx(2 * seen / (1 + seen))

    def test_it_stands_beside_nnunets_dice(self, network_for, tmp_path):
        network, labels = network_for(InMemory(scan(2, 3)))
        dataset = InMemory(scan(2, 3), scan(3))
        dataset.identifiers = ["anna.1", "ben"]
        summary = {
            "metric_per_case": [
                {"metrics": {"1": {"Dice": 0.1}, "2": {"Dice": 0.2}}, "prediction_file": f"{tmp_path}/{case}.nii.gz"}
                for case in dataset.identifiers
            ],
            "mean": {"1": {"Dice": 0.1}, "2": {"Dice": 0.2}},
            "foreground_mean": {"Dice": 0.15},
        }
        file = tmp_path / "summary.json"
        file.write_text(json.dumps(summary))
        assert add_protocol(network, torch.device("cpu"), dataset, labels, file, ".nii.gz") == 1
        written = json.loads(file.read_text())
        assert written["xmodal"] == {"directions": {METRIC: "higher"}}
        assert written["foreground_mean"] == {"Dice": 0.15, METRIC: 1.0}
        assert written["mean"] == {"1": {"Dice": 0.1, METRIC: 1.0}, "2": {"Dice": 0.2, METRIC: 1.0}}
        anna, ben = (case["metrics"] for case in written["metric_per_case"])
        assert anna == {"1": {"Dice": 0.1, METRIC: 1.0}, "2": {"Dice": 0.2, METRIC: 1.0}}
        assert np.isnan(ben["1"][METRIC]) and ben["2"] == {"Dice": 0.2, METRIC: 1.0}


def test_a_label_outside_of_the_patch_leaves_its_chunk_empty(network_for):
    volume = scan(2, size=(64, 200))
    volume[:, 8:40, :10] = 3
    network, labels = network_for(InMemory(volume))
    assert network.support.exists.any((1, 2)).tolist() == [False, False]  # both lie beside the middle
