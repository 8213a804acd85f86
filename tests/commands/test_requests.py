"""What commands ask for: the same defaults as in Python, every field by a flag, and no nnU-Net for it."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import NamedTuple

import pytest

from nnunet_xmodal.commands import compare, crossval, plan_and_preprocess, prepare
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planning_request import PlanRequest
from nnunet_xmodal.preparation.request import PreparationRequest


class Command(NamedTuple):
    """A command with the fewest flags that it takes, the same in Python, and other values by flags."""

    module: object
    words: str
    smallest: object
    others: dict[str, tuple[str, object]]


PLANNING = Command(
    plan_and_preprocess,
    "-d 4",
    PlanRequest((4,)),
    {
        "datasets": ("-d 5 6", (5, 6)),
        "planner": ("-pl XModalPlanner", "XModalPlanner"),
        "streams": ("--streams T1+T1c T2", ("T1+T1c", "T2")),
        "iso_compute": ("--iso_compute", True),
        "patch": ("--patch 32 64 64", (32, 64, 64)),
        "base_width": ("--base_width 16", 16),
        "grid": ("--grid 16 32 32", (16, 32, 32)),
        "size": ("--size 128", (128,)),
        "field_unit": ("--field_unit Hz", "Hz"),
        "B0": ("--B0 3", 3.0),
        "TE": ("--TE 0.02", 0.02),
        "b0_direction": ("--b0_direction 0 1 0", (0.0, 1.0, 0.0)),
        "unlabelled": ("--unlabelled", True),
        "allow_missing": ("--allow_missing", True),
        "fingerprint_extractor": ("-fpe Other", "Other"),
        "fingerprint_processes": ("-npfp 3", 3),
        "verify_dataset_integrity": ("--verify_dataset_integrity", True),
        "recompute_fingerprint": ("--clean", True),
        "gpu_memory_gb": ("-gpu_memory_target 24", 24.0),
        "preprocessor": ("-preprocessor_name Other", "Other"),
        "target_spacing_mm": ("-overwrite_target_spacing 3 1 1", (3.0, 1.0, 1.0)),
        "plans_name": ("-overwrite_plans_name Mine", "Mine"),
        "preprocess": ("--no_pp", False),
        "configurations": ("-c 2d", ("2d",)),
        "preprocessing_processes": ("-np 2", (2,)),
        "verbose": ("--verbose", True),
        "progress": ("--no_pbar", False),
    },
)

CROSSVAL = Command(
    crossval,
    "-d 4 -c 2d",
    CrossvalRequest("4", ("2d",)),
    {
        "dataset": ("-d 5", "5"),
        "configurations": ("-c 2d 3d_fullres", ("2d", "3d_fullres")),
        "trainers": ("-tr nnUNetTrainerCSAD", ("nnUNetTrainerCSAD",)),
        "plans": ("-p a b", ("a", "b")),
        "folds": ("-f 0 all", (0, "all")),
        "save_probabilities": ("--npz", True),
        "validate_best": ("--val_best", True),
        "pretrained_weights": ("-pretrained_weights w.pth", "w.pth"),
        "device": ("-device cpu", "cpu"),
        "gpus_per_training": ("-num_gpus 2", 2),
        "group_by": ("--group-by groups.csv", "groups.csv"),
        "trust": ("--trust", True),
        "executor": ("--executor print", "print"),
        "gpus": ("--gpus 0 1", ("0", "1")),
        "trainings_at_once": ("--jobs 2", 2),
        "partition": ("--partition gpu", "gpu"),
        "time_limit": ("--time 90", "90"),
        "memory": ("--mem 64G", "64G"),
        "cpu_cores": ("--cpus 4", 4),
        "jobs_at_once": ("--at-once 3", 3),
        "sbatch_options": ("--slurm account=lab", ("account=lab",)),
    },
)

COMPARISON = Command(
    compare,
    "-o out",
    ComparisonRequest(Path("out")),
    {
        "output": ("-o other", Path("other")),
        "dataset": ("-d 4", "4"),
        "configurations": ("-c 2d", ("2d",)),
        "trainers": ("-tr nnUNetTrainer", ("nnUNetTrainer",)),
        "plans": ("-p a b", ("a", "b")),
        "folds": ("-f all", ("all",)),
        "folders": ("--folders a=b c", ("a=b", "c")),
        "references": ("--gt labels", Path("labels")),
        "dataset_json": ("--dataset_json d.json", Path("d.json")),
        "viewer": ("--viewer", True),
        "by": ("--by presence", "presence"),
        "empty": ("--empty brats", "brats"),
        "nsd_tolerance_mm": ("--nsd_tolerance 2", 2.0),
        "lesion_iou": ("--lesion_iou 0.5", 0.5),
        "detection": ("--detection lesion", ("lesion",)),
        "calibration": ("--calibration", True),
        "temperature": ("--calibration --temperature", True),
        "group_by": ("--group-by groups.csv", "groups.csv"),
        "allow_missing": ("--allow-missing", True),
        "overlays": ("--overlays 0", 0),
        "processes": ("-np 3", 3),
    },
)

PREPARATION = Command(
    prepare,
    "-i scans -o Dataset510_A",
    PreparationRequest(Path("scans"), "Dataset510_A"),
    {
        "input": ("-i table.csv", Path("table.csv")),
        "output": ("-o Dataset511_B", "Dataset511_B"),
        "channels": ("--channels T2W=t2* ADC=adc*", ("T2W=t2*", "ADC=adc*")),
        "recipe": ("--recipe brats", "brats"),
        "reference": ("--reference label", "label"),
        "label": ("--label seg*", "seg*"),
        "label_component": ("--label_component 0", 0),
        "map": ("--map 4:3", ("4:3",)),
        "labels": ("--labels lesion=1", ("lesion=1",)),
        "streams": ("--streams T2W ADC", ("T2W", "ADC")),
        "transform": ("--transform ADC=*.tfm", ("ADC=*.tfm",)),
        "landmarks": ("--landmarks ADC=*.fcsv", ("ADC=*.fcsv",)),
        "register": ("--register", True),
        "roi": ("--roi lesion", "lesion"),
        "roi_label": ("--roi . --roi_label 2", (2,)),
        "margin": ("--roi lesion --margin 0", 0.0),
        "unlabelled": ("--unlabelled Ts", "Ts"),
        "orientation": ("--orientation LPS", "LPS"),
        "allow_missing": ("--allow_missing", True),
        "processes": ("-np 3", 3),
        "overwrite": ("--overwrite", True),
    },
)

COMMANDS = {"plan": PLANNING, "crossval": CROSSVAL, "compare": COMPARISON, "prepare": PREPARATION}
OTHERS = [(name, field) for name, command in COMMANDS.items() for field in command.others]


def asked(command: Command, words: str = ""):
    return command.module.request_of(command.module.parser().parse_args(f"{command.words} {words}".split()))


@pytest.fixture(autouse=True)
def _processes(monkeypatch):
    monkeypatch.delenv("nnUNet_def_n_proc", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 5)


def smallest(command: Command):
    """Return the request that was built above, with the defaults of this test's surroundings."""
    request = command.smallest
    return replace(request, processes=5) if "processes" in command.others else request


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_and_python_have_the_same_defaults(name):
    assert asked(COMMANDS[name]) == smallest(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_field_is_reached_by_a_flag(name):
    assert {field.name for field in fields(COMMANDS[name].smallest)} == set(COMMANDS[name].others)


@pytest.mark.parametrize("name, field", OTHERS)
def test_a_flag_sets_its_field(name, field):
    command = COMMANDS[name]
    words, value = command.others[field]
    request = asked(command, words)
    assert getattr(request, field) == value != getattr(smallest(command), field)
    changed = {f.name for f in fields(request) if getattr(request, f.name) != getattr(smallest(command), f.name)}
    needed = {"roi", "calibration"}  # --margin and --roi_label need one, --temperature the other
    assert changed - needed == {field} - needed


@pytest.mark.parametrize("name", COMMANDS)
def test_a_request_cannot_be_changed(name):
    request = asked(COMMANDS[name])
    hash(request)  # no list in it
    with pytest.raises(FrozenInstanceError):
        setattr(request, fields(request)[0].name, "other")


@pytest.mark.parametrize("request_class", [ComparisonRequest, PreparationRequest])
def test_the_number_of_processes_is_nnunets(request_class, monkeypatch):
    required = {"output": "out"} if request_class is ComparisonRequest else {"input": "in", "output": "out"}
    assert request_class(**required).processes == 5
    monkeypatch.setenv("nnUNet_def_n_proc", "3")
    assert request_class(**required).processes == 3
    monkeypatch.setenv("nnUNet_def_n_proc", "many")
    assert request_class(**required).processes == 5


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: PlanRequest(()), "there is nothing to plan"),
        (lambda: PlanRequest((4,), target_spacing_mm=(1.0, 1.0)), "-overwrite_target_spacing takes three numbers"),
        (lambda: PlanRequest((4,), preprocessing_processes=(1, 2)), "one for each of the 3 configurations"),
        (lambda: CrossvalRequest("4", ("2d",), executor="Slurm"), "--executor Slurm is unknown: take one of local"),
        (lambda: CrossvalRequest("4", ("2d",), device="gpu"), "-device gpu is unknown: take one of cuda"),
        (lambda: CrossvalRequest("4", ("2d",), cpu_cores=0), "--cpus 0 is not a positive number"),
        (lambda: CrossvalRequest("4", ("2d", "2d")), "-c names 2d twice"),
        (lambda: ComparisonRequest(Path("out"), overlays=-1), "--overlays -1"),
        (lambda: ComparisonRequest(Path("out"), empty="zero"), "--empty zero is unknown: take one of nan, brats"),
        (lambda: ComparisonRequest(Path("out"), processes=0), "-np 0 is not a positive number"),
        (lambda: PreparationRequest(Path("in"), "A", margin=-1.0, roi="a"), "--margin takes millimetres from 0"),
        (lambda: PreparationRequest(Path("in"), "A", margin=0.0), "--margin is the distance around the organ of --roi"),
        (lambda: PreparationRequest(Path("in"), "A", roi_label=(1,)), "--roi_label says which values of masks"),
        (lambda: PreparationRequest(Path("in"), "A", unlabelled="Tx"), "--unlabelled Tx is unknown"),
    ],
)
def test_what_no_command_would_build_is_refused_in_python_too(make, sentence):
    with pytest.raises(XModalError, match=sentence):
        make()


def test_requests_import_nothing_large():
    modules = {type(command.smallest).__module__ for command in COMMANDS.values()}
    code = f"import {', '.join(sorted(modules))}, sys; print(*{{'torch', 'nnunetv2', 'numpy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == [], done.stderr
