"""What could stop a job later is refused at once, in a sentence, and before anything is written."""

import json
import os
from pathlib import Path

import pytest
import torch
from nnunetv2.utilities.crossval_split import generate_crossval_split

from nnunet_xmodal import trainers
from nnunet_xmodal.commands.crossval import main, parser, request_of
from nnunet_xmodal.crossval import run as module
from nnunet_xmodal.crossval.job import jobs_of
from nnunet_xmodal.crossval.local import NOT_STARTED
from nnunet_xmodal.crossval.run import crossval
from nnunet_xmodal.crossval.slots import slots_of
from nnunet_xmodal.crossval.supervised import RUNS_ELSEWHERE
from nnunet_xmodal.datasets.grouped_split import GROUPS_FILE
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.trainers.base.few_shot import FewShotTrainer

DATASET = "Dataset999_Tiny"
CASES = [f"patient{index // 2}_visit{index % 2}" for index in range(12)]


@pytest.fixture
def preprocessed(nnunet_folders, make_plans, make_dataset_json, write_preprocessed) -> Path:
    """A dataset with the configurations 2d, 3d_lowres and 3d_cascade_fullres, preprocessed; one that is not."""
    folder = nnunet_folders / "nnUNet_preprocessed" / DATASET
    plans = make_plans(2)
    configurations = plans["configurations"]
    configurations["3d_lowres"] = {"inherits_from": "2d", "next_stage": "3d_cascade_fullres"}
    configurations["3d_cascade_fullres"] = {"inherits_from": "2d", "previous_stage": "3d_lowres"}
    configurations["unprocessed"] = {"inherits_from": "2d", "data_identifier": "nnUNetPlans_unprocessed"}
    for name in ("gt_segmentations", "nnUNetPlans_2d"):
        (folder / name).mkdir(parents=True)
    write_preprocessed(folder, CASES)
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(make_dataset_json()))
    return folder


@pytest.fixture
def run(preprocessed):
    """Exit status of a command; `-executor print` unless given, so that nothing is trained."""

    def run(*words) -> int:
        arguments = ["-d", DATASET, "-c", "2d", "--executor", "print", "-device", "cpu", *map(str, words)]
        return crossval(request_of(parser().parse_args(arguments)))

    return run


@pytest.fixture
def refused(run, nnunet_folders):
    """The sentence with which a command is refused; nothing has changed on disk."""

    def refused(*words) -> str:
        before = {file: file.is_file() and file.read_bytes() for file in nnunet_folders.rglob("*")}
        with pytest.raises(XModalError) as error:
            run(*words)
        assert {file: file.is_file() and file.read_bytes() for file in nnunet_folders.rglob("*")} == before
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["-d", "7"], "-d 7 is no dataset: Could not find a dataset with the ID 7"),
        (["-d", "Tiny"], "-d Tiny is no dataset"),
        (["-d", "Dataset007_Absent"], "nnUNetPlans.json is missing: run nnUNetXModal_plan_and_preprocess"),
        (["-p", "nnUNetResEncUNetMPlans"], "nnUNetResEncUNetMPlans.json is missing"),
        (["-c", "3d_fullres"], "take one of 2d, 3d_lowres, 3d_cascade_fullres, unprocessed"),
        (["-c", "unprocessed"], "nnUNetPlans_unprocessed holds no data: run nnUNetv2_preprocess -c unprocessed"),
        (["-tr", "nnUNetTrainerAbsent"], "-tr nnUNetTrainerAbsent is no trainer that nnU-Net finds"),
        (["-tr", "nnUNetTrainer", "nnUNetTrainer"], "-tr names nnUNetTrainer twice"),
        (["-c", "2d", "2d"], "-c names 2d twice"),
        (["-f", "0", "00"], "-f names 0 twice"),
        (["-f", "0", "5"], "-f 5: "),
        (["-f", "7", "--group-by", "(.+)_visit"], "has the folds 0 to 4"),
        (["--group-by", "nobody"], "--group-by nobody finds no subject in the case name patient0_visit0"),
        (["--group-by", r"visit\d"], "--group-by finds 2 subjects in 12 cases"),
        (["-pretrained_weights", "absent.pth"], "-pretrained_weights absent.pth does not exist"),
        (["-f", "1", "-pretrained_weights", "fold_{fold}.pth"], "-pretrained_weights fold_1.pth does not exist"),
        (
            ["--npz", "-tr", "nnUNetTrainer", "nnUNetTrainerAttentionReg"],
            "--npz: nnUNetTrainerAttentionReg has no",
        ),
        (["-num_gpus", "2"], "-num_gpus 2 goes with -device cuda, not with -device cpu"),
        (["--executor", "local", "--gpus", "0"], "--gpus goes with -device cuda, not with -device cpu"),
        (["-c", "3d_cascade_fullres"], "reads predictions of 3d_lowres for every case"),
        (["-c", "3d_lowres", "3d_cascade_fullres", "-f", "0", "1"], "lacks 6 of them"),
        (["--executor", "slurm", "--time", "soon"], "--time soon is no time limit"),
        (["--executor", "slurm", "--slurm", "account"], "--slurm account: options are written as key=value"),
    ],
)
def test_refusals(words, sentence, refused, monkeypatch):
    monkeypatch.setattr(module.slurm, "check_sbatch", lambda: None)  # the same on a machine without Slurm
    assert sentence in refused(*words)


def test_missing_variables(refused, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    assert "nnUNet_results is not set" in refused()


def test_a_command_that_is_not_installed(refused, monkeypatch):
    def missing(name):
        raise XModalError(f"the command {name} is not found")

    monkeypatch.setattr(module, "executable", missing)
    assert "nnUNetv2_train is not found" in refused("--executor", "local")


def test_fewer_cases_than_folds(refused, run, preprocessed):
    for case in CASES[4:]:
        (preprocessed / "gt_segmentations" / f"{case}.nii.gz").unlink()
    assert "holds 4 cases, but nnU-Net's split needs at least five" in refused()
    assert run("-f", "all") == 0 and not (preprocessed / "splits_final.json").exists()


def test_a_split_that_is_cut_off(refused, preprocessed):
    (preprocessed / "splits_final.json").write_text('[{"train": [')
    assert "splits_final.json is no split: delete it" in refused()


@pytest.mark.parametrize("name", ["gt_segmentations/{}.nii.gz", "nnUNetPlans_2d/{}.b2nd", "nnUNetPlans_2d/{}.pkl"])
@pytest.mark.parametrize("bytes_left", [0, -1])
def test_preprocessed_cases_that_are_cut_off(refused, run, preprocessed, name, bytes_left):
    """nnU-Net would train for hours, and measure Dice with half a reference."""
    assert run() == 0
    file = preprocessed / name.format(CASES[3])
    file.write_bytes(file.read_bytes()[:bytes_left])
    for folds in (["0", "1"], ["all"]):
        assert f"{file} is missing, cut off or damaged: run nnUNetXModal_plan_and" in refused("-f", *folds)


def test_a_case_that_was_not_preprocessed(refused, preprocessed):
    (preprocessed / "nnUNetPlans_2d" / f"{CASES[3]}_seg.b2nd").unlink()
    assert f"{CASES[3]}_seg.b2nd is missing" in refused()


@pytest.mark.parametrize("name", ["dataset.json", "nnUNetPlans.json"])
def test_json_that_is_cut_off_is_named(refused, preprocessed, name):
    content = (preprocessed / name).read_text()
    (preprocessed / name).write_text(content[: len(content) // 2])
    assert f"{preprocessed / name} is not valid JSON" in refused()


def test_plans_of_a_model_that_are_cut_off_are_written_again(run, nnunet_folders, preprocessed, write_summary):
    """By nnU-Net itself they would only be with the next training."""
    results = nnunet_folders / "nnUNet_results"
    (job,) = jobs_of(results, DATASET, ["2d"], ["nnUNetTrainer"], ["nnUNetPlans"], [0])
    write_summary(job)
    arguments = {"plans": json.loads((preprocessed / "nnUNetPlans.json").read_text()), "dataset_json": {"labels": {}}}
    torch.save({"init_args": arguments}, job.folder / "checkpoint_final.pth")
    for name, content in (("plans.json", arguments["plans"]), ("dataset.json", arguments["dataset_json"])):
        file = job.model_folder / name
        file.write_text(json.dumps(content)[:-7])
        assert run("-f", 0) == 0
        assert json.loads(file.read_text()) == content


def test_a_dataset_without_dataset_json(refused, preprocessed):
    (preprocessed / "dataset.json").unlink()
    assert "dataset.json is missing" in refused()


def test_subjects_after_a_training(refused, run, nnunet_folders):
    run()
    fold = nnunet_folders / "nnUNet_results" / DATASET / "nnUNetTrainer__nnUNetPlans__2d" / "fold_0"
    fold.mkdir(parents=True)
    (fold / "checkpoint_latest.pth").touch()
    assert "fold_0 was trained on the split in" in refused("--group-by", "(.+)_visit")


def test_the_command_prints_the_sentence_and_ends_with_2(preprocessed, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["-d", DATASET, "-c", "absent"])
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: -c absent is not in ")


def test_the_split_is_nnunets_own_and_written_once(run, preprocessed):
    assert run() == 0
    file = preprocessed / "splits_final.json"
    assert json.loads(file.read_text()) == generate_crossval_split(sorted(CASES))
    before = file.stat().st_mtime_ns
    assert run() == 0 and file.stat().st_mtime_ns == before


def test_a_split_of_ones_own_is_taken_as_it_is(run, refused, preprocessed):
    own = [{"train": CASES[:6], "val": CASES[6:]}, {"train": CASES[6:], "val": CASES[:6]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(own))
    assert run("-f", "0", "1") == 0 and "has the folds 0 to 1" in refused("-f", "0", "2")
    assert json.loads((preprocessed / "splits_final.json").read_text()) == own


def test_folds_by_subject(run, preprocessed):
    assert run("--group-by", "(.+)_visit") == 0
    for fold in json.loads((preprocessed / "splits_final.json").read_text()):
        assert not {case[:8] for case in fold["train"]} & {case[:8] for case in fold["val"]}
    assert set(json.loads((preprocessed / GROUPS_FILE).read_text()).values()) == {case[:8] for case in CASES}
    assert run() == 0  # without --group-by the split stays


def test_what_is_printed_is_for_a_shell_alone(run, capsys):
    """Although nnU-Net prints where it searches for trainers."""
    run("-tr", "nnUNetTrainerCSAD", "nnUNetTrainer_2epochs_2its", "-f", 0, "all", "--npz", "--val_best")
    export, *lines = capsys.readouterr().out.splitlines()
    assert export.startswith("export nnUNet_extTrainer=")
    assert lines == [
        f"nnUNetv2_train {DATASET} 2d {fold} -tr {trainer} -p nnUNetPlans -device cpu --npz --val_best"
        for fold in (0, "all")
        for trainer in ("nnUNetTrainerCSAD", "nnUNetTrainer_2epochs_2its")
    ]


def test_a_cascade_needs_every_case_from_the_stage_before(run, refused, capsys, preprocessed, nnunet_folders):
    both = ("-c", "3d_cascade_fullres", "3d_lowres")
    assert run(*both) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("export")]
    assert [line.split()[2] for line in lines if line[0] != "#"] == ["3d_lowres"] * 5 + ["3d_cascade_fullres"] * 5
    assert lines[5].startswith("# wait")
    assert run(*both, "-f", "all") == 0

    model = nnunet_folders / "nnUNet_results" / DATASET / "nnUNetTrainer__nnUNetPlans__3d_lowres"
    predicted = model / "predicted_next_stage" / "3d_cascade_fullres"
    predicted.mkdir(parents=True)
    for case in CASES[1:]:
        (predicted / f"{case}.b2nd").touch()
    assert f"lacks 1 of them, the first {CASES[0]}" in refused("-c", "3d_cascade_fullres")
    (predicted / f"{CASES[0]}.b2nd").touch()
    assert run("-c", "3d_cascade_fullres", "-f", 3) == 0


def test_a_finished_first_stage_without_predictions(run, refused, nnunet_folders, write_checkpoint, write_summary):
    run()
    results = nnunet_folders / "nnUNet_results"
    for job in jobs_of(results, DATASET, ["3d_lowres"], ["nnUNetTrainer"], ["nnUNetPlans"], range(5)):
        write_checkpoint(job, "final"), write_summary(job)
    sentence = refused("-c", "3d_lowres", "3d_cascade_fullres")
    assert "is finished but left no prediction of" in sentence and "--val" in sentence


def slots(*words) -> list:
    return slots_of(request_of(parser().parse_args(["-d", DATASET, "-c", "2d", *map(str, words)])))


def test_a_job_per_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert slots() == ["0", "1", "2", "3"]
    assert slots("--jobs", 2) == ["0", "1"] and slots("--gpus", 3, 1) == ["3", "1"]
    assert slots("--gpus", 2, "--jobs", 2) == ["2", "2"]
    assert slots("-num_gpus", 2) == ["0,1", "2,3"] and slots("-num_gpus", 3) == ["0,1,2"]
    for words, sentence in ((("--gpus", 4), "--gpus 4 is none of"), (("--gpus", 1, 1), "--gpus names 1 twice")):
        with pytest.raises(XModalError, match=sentence):
            slots(*words)
    with pytest.raises(XModalError, match="-num_gpus 5 needs as many GPUs, but there are 4"):
        slots("-num_gpus", 5)


def test_only_visible_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7,99")
    assert slots() == ["5", "7"]
    with pytest.raises(XModalError, match="--gpus 0 is none of this machine's: take from 5 7"):
        slots("--gpus", 0)


def test_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(XModalError, match="there is no CUDA device: add -device cpu"):
        slots()
    assert slots("-device", "cpu") == [None] and slots("-device", "mps", "--jobs", 3) == [None] * 3


@pytest.mark.parametrize(
    "statuses, code, sentences",
    [
        ((0, 0), 0, []),
        ((0, 3), 1, ["1 of 2 trainings failed: nnUNetTrainer__nnUNetPlans__2d, fold 1"]),
        ((RUNS_ELSEWHERE, NOT_STARTED), 1, ["1 of 2 trainings run elsewhere", "1 of 2 trainings were not started"]),
    ],
)
def test_the_exit_status_tells(statuses, code, sentences, run, monkeypatch, capsys):
    monkeypatch.setattr(module, "run_locally", lambda waves, slots, table: dict(zip(waves[0], statuses)))
    assert run("--executor", "local", "-f", 0, 1) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(sentences) and all(line.startswith(s) for line, s in zip(lines, sentences))


def test_our_trainers_are_found_by_every_job(run, monkeypatch):
    monkeypatch.delenv("nnUNet_extTrainer")
    run("-tr", "nnUNetTrainerCSAD")
    assert os.environ["nnUNet_extTrainer"].endswith("plugin")


def test_folds_of_a_new_split_have_as_many_cases_of_each_pattern_of_presence(run, preprocessed, capsys):
    missing = {case: ["T1c"] for case in CASES[:6]}
    (preprocessed / "missing.json").write_text(json.dumps(missing))
    run()
    split = json.loads((preprocessed / "splits_final.json").read_text())
    assert sorted(sum(case in missing for case in fold["val"]) for fold in split) == [1, 1, 1, 1, 2]
    assert "5 folds with nearly as many cases of each pattern of presence" in capsys.readouterr().err
    run("--group-by", "(.+)_visit", "-tr", "nnUNetTrainer", "nnUNetTrainerMultiStreamDropout")
    assert "5 folds by subject with nearly as many" in capsys.readouterr().err
    with pytest.raises(
        XModalError, match=r"nnUNetTrainerCSAD needs every channel, and 6 cases lack some \(patient0_vi"
    ):
        run("-tr", "nnUNetTrainerCSAD")


@pytest.mark.parametrize("flags", [[], ["--val_best"]])
def test_folds_that_have_a_validation_keep_it_and_val_best_says_so(
    run, nnunet_folders, write_checkpoint, write_summary, capsys, monkeypatch, flags
):
    monkeypatch.setattr(module, "run_locally", lambda waves, slots, table: {job: 0 for job in waves[0]})
    results = nnunet_folders / "nnUNet_results"
    (job,) = jobs_of(results, DATASET, ["2d"], ["nnUNetTrainer"], ["nnUNetPlans"], [0])
    write_checkpoint(job, "final"), write_summary(job)
    run("--executor", "local", "-f", 0, 1, *flags)
    assert ("--val_best: 1 folds have a validation, of whichever checkpoint" in capsys.readouterr().out) == bool(flags)


def test_few_shot_models_save_probabilities_and_others_of_their_own_task_do_not():
    for name in trainers.TRAINERS:
        trainer = getattr(trainers, name)
        labels = issubclass(trainer, FewShotTrainer) or trainer.predictor_class is SegmentationPredictor
        assert trainer.saves_probabilities == labels, name
