"""What a card says of streams: by the names of their channels, and as the network reads them."""

import pytest
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_xmodal import trainers
from nnunet_xmodal.catalogue.trainers import TRAINERS
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.sharing.streams_read import streams_read_by

PAIRS = [["T1", "T1c"], ["T2", "FLAIR"]]


class Stranger(nnUNetTrainer):
    @staticmethod
    def build_network_architecture(*arguments, **others):
        raise NotImplementedError


@pytest.fixture
def told(make_plans, make_dataset_json):
    """`(trainer, in_dataset, in_plans, in_architecture)` → what is said of a model with four channels."""

    def tell(trainer, in_dataset=None, in_plans=None, in_architecture=None, **xmodal):
        plans, dataset_json = make_plans(channels=4, streams=in_plans), make_dataset_json(channels=4)
        if in_dataset is not None:
            dataset_json["xmodal"] = {"streams": in_dataset}
        if in_architecture is not None:
            plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["streams"] = in_architecture
        if xmodal:
            plans["xmodal"] = {**plans.get("xmodal", {}), **xmodal}
        plans["configurations"]["2d_larger"] = {"inherits_from": "2d", "batch_size": 3}
        kind = getattr(trainers, trainer) if isinstance(trainer, str) else trainer
        return streams_read_by(kind, plans, "2d_larger", dataset_json)

    return tell


@pytest.mark.parametrize(
    "streams, expected",
    [
        ({"in_dataset": PAIRS}, "T1+T1c | T2+FLAIR"),
        ({"in_plans": [[0, 1], [2, 3]]}, "T1+T1c | T2+FLAIR"),
        ({"in_architecture": [[0, 3], [1, 2]], "in_dataset": PAIRS}, "T1+FLAIR | T1c+T2"),
        ({}, "T1 | T1c | T2 | FLAIR"),
    ],
    ids=["of dataset.json", "of the plans", "of XModalPlanner", "one of each channel"],
)
def test_streams_are_told_by_names_wherever_they_stand(told, streams, expected):
    assert told("nnUNetTrainerMultiStream", **streams) == expected
    assert told("nnUNetTrainerCSAD_5epochs", **streams) == expected


def test_nnunets_trainer_has_the_streams_of_our_planner_and_else_one_input(told):
    assert told(nnUNetTrainer, in_architecture=[[0, 1], [2, 3]]) == "T1+T1c | T2+FLAIR"
    for ignored in ({}, {"in_dataset": PAIRS}, {"in_plans": [[0, 1], [2, 3]]}):
        assert told(nnUNetTrainer, **ignored) == "T1+T1c+T2+FLAIR as one input"


def test_of_a_strangers_network_nothing_is_said(told):
    assert told(Stranger, in_architecture=[[0, 1], [2, 3]]) is None


def test_networks_that_join_streams_or_leave_some_out_say_so(told):
    for trainer in ("nnUNetTrainerFA", "nnUNetTrainerCSADEarlyFusion", "nnUNetTrainerZeroFill"):
        assert told(trainer, in_dataset=[["FLAIR", "T1c"], ["T2", "T1"]]) == "T1+T1c+T2+FLAIR as one input"
    assert told("nnUNetTrainerStream1", in_dataset=[["T1"], ["T2"], ["T1c", "FLAIR"]]) == "T2"
    assert told("nnUNetTrainerCMFFStreamB", in_dataset=PAIRS) == "T2+FLAIR as one input"
    assert told("nnUNetTrainerCMFF", in_dataset=PAIRS) == "T1+T1c | T2+FLAIR"


def test_the_target_of_a_regression_is_in_no_stream(told):
    assert told("nnUNetTrainerQSM", target_channel=3) == "T1+T1c+T2 as one input"


JOINED = {f"nnUNetTrainer{name}" for name in ("CSADEarlyFusion", "CSADPrintedEarlyFusion", "DVNet", "MSReg")}
ONE_ALONE = {f"nnUNetTrainer{name}" for name in ("Stream0", "Stream1", "CMFFStreamA", "CMFFStreamB")}


def test_every_trainer_reads_apart_what_the_catalogue_says_that_it_reads_apart():
    names = {name: entry for entry in TRAINERS for name in entry.names}
    assert JOINED | ONE_ALONE < set(names)
    for name, entry in names.items():
        if name in ("nnUNetTrainerStream2", "nnUNetTrainerStream3"):
            continue  # of two streams there is none of theirs
        read = getattr(trainers, name).streams_read([[1], [0]])
        apart = entry.task == "registration" or any(word in entry.streams for word in ("2 or more", "exactly 2"))
        if name in ONE_ALONE:
            assert read in ([[0]], [[1]]), name
        else:
            assert read == ([[1], [0]] if apart and name not in JOINED else [[0, 1]]), name


def test_streams_of_other_channels_are_refused(told):
    with pytest.raises(XModalError, match="name channel 0 \\(T1\\) twice"):
        told("nnUNetTrainerMultiStream", in_plans=[[0], [0], [1], [2], [3]])
