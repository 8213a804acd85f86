"""`nnUNetXModal_compare` as a user calls it, on results that were made without a training."""

import csv
import errno
import json
import os
import re
import shutil
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.commands.compare import main
from nnunet_xmodal.comparison import run as module
from nnunet_xmodal.comparison.request import ComparisonRequest
from nnunet_xmodal.comparison.sources import prediction_folders
from nnunet_xmodal.datasets.grouped_split import GROUPS_FILE
from nnunet_xmodal.errors import XModalError

FILES = {"report.html", "summary.md", "summary.csv", "statistics.csv", "cases.csv"}
MODELS = ("-d", "900", "-c", "2d", "-f", "0", "1", "2", "-np", "1", "--overlays", "1")


@pytest.fixture
def compare(results, tmp_path, capsys, undrawn):
    """`(*arguments, fails)` → what the command printed and the rows of its tables by name."""
    output = tmp_path / "report"

    def run(*arguments, fails=False):
        words = [*map(str, arguments), "-o", str(output)]
        if fails:
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert ended.value.code == 2
            error = capsys.readouterr().err.strip().splitlines()[-1]
            assert error.startswith("error: ")
            assert not output.exists() or not FILES & {file.name for file in output.iterdir()}
            return error
        main(words)
        tables = {
            file.stem: list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
            for file in output.glob("*.csv")
        }
        return SimpleNamespace(output=output, printed=capsys.readouterr().out, **tables)

    return run


@pytest.mark.parametrize("name", ["report.html", "summary.md", "cases.csv", "cost.csv"])
def test_files_of_others_are_neither_replaced_nor_taken_away(results, tmp_path, capsys, undrawn, name):
    """As the table of a study that lies where its report shall lie."""
    results.add("nnUNetTrainer", shift=1)
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / name).write_text("mine")
    with pytest.raises(SystemExit):
        main([*MODELS, "-tr", "nnUNetTrainer", "-o", str(tmp_path / "study")])
    assert f"{name} is of no report, and one would replace it: give another -o" in capsys.readouterr().err
    assert [file.read_text() for file in (tmp_path / "study").iterdir()] == ["mine"]


def test_two_trainers_side_by_side(results, compare):
    results.add("nnUNetTrainer", shift=1)
    results.add("nnUNetTrainerCSAD", shift=2)
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "nnUNetTrainerCSAD")
    assert FILES <= {file.name for file in made.output.iterdir()}
    assert len(made.cases) == 2 * 6 * 2
    (row,) = [row for row in made.statistics if (row["label"], row["metric"]) == ("core", "Dice")]
    assert (row["wins"], row["n"]) == ("6", "6") and float(row["mean_difference"]) > 0
    assert float(row["p"]) == pytest.approx(2 / 2**6)  # the smallest that six pairs can give
    report = (made.output / "report.html").read_text(encoding="utf-8")
    assert "nnUNetTrainerCSAD" in report and report.count("data:image/png") == 2 * 3 * 2 + 3 + 1
    (cost,) = [row for row in made.cost if row["model"] == "nnUNetTrainer"]
    assert float(cost["seconds_per_epoch"]) == pytest.approx(22) and float(cost["seconds_per_case"]) == pytest.approx(8)
    assert not list(made.output.glob(".tmp*"))


def test_fold_means_are_nnunets(results, compare):
    results.add("nnUNetTrainer", shift=1)
    made = compare(*MODELS, "-tr", "nnUNetTrainer")
    told = [
        json.loads((results.validation("nnUNetTrainer", fold) / "summary.json").read_text())["foreground_mean"]["Dice"]
        for fold in range(3)
    ]
    (row,) = [row for row in made.summary if (row["label"], row["metric"]) == ("mean over labels", "Dice")]
    assert float(row["mean_of_folds"]) == pytest.approx(np.mean(told), abs=1e-12)
    assert float(row["sd_of_folds"]) == pytest.approx(np.std(told, ddof=1), abs=1e-12)


def test_other_tools_take_part(results, compare, tmp_path):
    results.add("nnUNetTrainer", shift=1)
    shutil.copytree(results.references, tmp_path / "perfect")
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "--folders", f"other tool={tmp_path / 'perfect'}")
    assert {row["fold"] for row in made.cases if row["model"] == "other tool"} == {"0", "1", "2"}
    assert {row["Dice"] for row in made.cases if row["model"] == "other tool"} == {"1.0"}
    assert {row["HD95"] for row in made.cases if row["model"] == "other tool"} == {"0.0"}


def test_folders_alone(results, compare, tmp_path):
    for name in ("one", "two"):
        shutil.copytree(results.references, tmp_path / name)
    (tmp_path / "one" / "dataset.json").write_text(json.dumps(results.dataset_json))
    made = compare("--folders", tmp_path / "one", tmp_path / "two", "--gt", results.references, "-np", "1")
    assert {row["model"] for row in made.cases} == {"one", "two"}
    assert "cost" not in vars(made)


def test_empty_labels_follow_the_rule_and_are_counted(results, compare):
    results.add("nnUNetTrainer", shift=1)
    file = results.validation("nnUNetTrainer", 0) / "a_1.nii.gz"
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(image * 0, str(file))
    results.summarise("nnUNetTrainer", 0)

    def of_case(made):
        (row,) = [row for row in made.cases if (row["case"], row["label"]) == ("a_1", "core")]
        return row

    made = compare(*MODELS, "-tr", "nnUNetTrainer")
    assert of_case(made)["HD95"] == "" and of_case(made)["empty"] == "prediction"
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "--empty", "brats")
    assert float(of_case(made)["HD95"]) == pytest.approx(373.12866)
    assert (of_case(made)["Dice"], of_case(made)["NSD"]) == ("0.0", "0.0")
    assert "2 without a prediction (rule: brats)" in (made.output / "summary.md").read_text()
    (row,) = [row for row in made.summary if (row["label"], row["metric"]) == ("core", "HD95")]
    assert row["n_empty"] == "1"


@pytest.mark.slow
def test_the_unit_is_the_subject_when_cases_are_grouped(results, compare):
    results.add("nnUNetTrainer", shift=1)
    results.add("nnUNetTrainerCSAD", shift=2)
    trainers = ("-tr", "nnUNetTrainer", "nnUNetTrainerCSAD")
    grouped = compare(*MODELS, *trainers, "--group-by", r"^(.)_")
    assert {row["n"] for row in grouped.statistics if row["metric"] == "Dice"} == {"3"}
    assert {row["p"] for row in grouped.statistics if row["metric"] == "Dice"} == {""}
    assert "fewer than 6 pairs" in grouped.statistics[0]["note"]
    groups = results.root / "nnUNet_preprocessed" / "Dataset900_Spheres" / GROUPS_FILE
    groups.write_text(json.dumps({row["case"]: row["case"][0] for row in grouped.cases}))
    assert compare(*MODELS, *trainers).statistics == grouped.statistics


def test_missing_folds_are_refused_and_left_out_on_demand(results, compare):
    results.add("nnUNetTrainer", shift=1)
    results.add("nnUNetTrainerCSAD", shift=2, folds={0: ("a_1", "a_2")})
    trainers = ("-tr", "nnUNetTrainer", "nnUNetTrainerCSAD")
    assert "fold_1" in compare(*MODELS, *trainers, fails=True)
    made = compare(*MODELS, *trainers, "--allow-missing")
    assert {row["case"] for row in made.cases} == {"a_1", "a_2"}
    assert "Left out with --allow-missing" in (made.output / "summary.md").read_text()


def test_metrics_of_other_tasks_are_compared_by_their_direction(results, compare):
    for trainer, error in (("nnUNetTrainer", 2.0), ("nnUNetTrainerCSAD", 1.0)):
        folder = results.add(trainer, shift=1)
        for fold in range(3):
            validation = results.validation(trainer, fold)
            cases = [
                {"prediction_file": file.name, "metrics": {"1": {"SRE_mm": error + fold, "seconds": 4}}}
                for file in validation.glob("*.nii.gz")
            ]
            for file in validation.glob("*.nii.gz"):
                file.unlink()
            summary = {"metric_per_case": cases, "xmodal": {"directions": {"SRE_mm": "lower"}}}
            (validation / "summary.json").write_text(json.dumps(summary))
        assert folder.is_dir()
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "nnUNetTrainerCSAD")
    assert set(made.cases[0]) >= {"SRE_mm", "seconds"} and "Dice" not in made.cases[0]
    (row,) = [row for row in made.statistics if row["metric"] == "SRE_mm"]
    assert (row["wins"], row["losses"], row["mean_difference"]) == ("0", "6", "1.0")
    assert not [row for row in made.statistics if row["metric"] == "seconds"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ((), "there is nothing to compare"),
        (("-tr", "nnUNetTrainer"), "-tr needs -d and -c"),
        (("-d", "899", "-c", "2d", "-tr", "nnUNetTrainer"), "-d 899 is no dataset"),
        ((*MODELS, "-tr", "nnUNetTrainerX"), "there is no trained model"),
        ((*MODELS, "-tr", "nnUNetTrainer", "nnUNetTrainer"), "two models are called nnUNetTrainer"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--nsd_tolerance", "-1"), "-1"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--lesion_iou", "2"), "2"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--gt", "nowhere"), "--gt nowhere is no folder"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--group-by", "^(x)"), "finds no subject in the case name"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--detection", "tumour"), "--detection tumour is no label"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--detection", "core"), "a_1.npz is missing"),
        (("--folders", "nowhere", "--gt", "."), "--dataset_json"),
        (("-d", "nothing", "-c", "2d", "-tr", "nnUNetTrainer"), "-d nothing is no dataset: give its number"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--overlays", "-1"), "--overlays -1"),
        ((*MODELS, "-tr", "nnUNetTrainer", "--folders", "name="), "--folders name= names no folder"),
        ((*MODELS, "-tr", "nnUNetTrainer", "-f", "7"), "nnUNetTrainer has no result at all"),
    ],
)
def test_bad_flags_are_one_sentence_and_write_nothing(results, compare, arguments, sentence):
    results.add("nnUNetTrainer", shift=1)
    assert sentence in compare(*arguments, fails=True)


@pytest.mark.parametrize("content", ['{"a_1":', "[]", '{"a_1": "a"}'])
def test_damaged_groups_are_named(results, compare, content):
    results.add("nnUNetTrainer", shift=1)
    (results.root / "nnUNet_preprocessed" / "Dataset900_Spheres" / GROUPS_FILE).write_text(content)
    assert "names no subject for every case" in compare(*MODELS, "-tr", "nnUNetTrainer", fails=True)


@pytest.mark.parametrize(
    "word, expected",
    [
        ("{}/plain", "plain"),
        ("other tool={}/a=b", "other tool"),
        ("{}/a=b", "a=b"),
        ("x=y={}/plain", "x=y"),
        (".", "gt"),
    ],
)
def test_folders_are_named_by_themselves_or_as_told(results, tmp_path, monkeypatch, word, expected):
    for name in ("plain", "a=b", "gt"):
        shutil.copytree(results.references, tmp_path / name)
    monkeypatch.chdir(tmp_path / "gt")
    settings = ComparisonRequest(tmp_path, folders=[word.format(tmp_path)])
    assert [model.name for model in prediction_folders(settings, results.dataset_json)] == [expected]


def test_a_name_that_cannot_be_printed_is_refused(results, compare):
    results.add("nnUNetTrainer", shift=1)
    folder = f"\udcff={results.references}"
    assert r"'\udcff' cannot be printed" in compare(*MODELS, "-tr", "nnUNetTrainer", "--folders", folder, fails=True)


def test_a_full_disk_is_named_and_an_earlier_report_stays_whole(results, compare, monkeypatch):
    results.add("nnUNetTrainer", shift=1)
    output = compare(*MODELS, "-tr", "nnUNetTrainer").output
    before = {file: file.read_bytes() for file in output.iterdir() if file.is_file()}
    results.add("nnUNetTrainerCSAD", shift=2)
    write = Path.write_text

    def fail(self, *arguments, **more):
        if self.name == "statistics.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return write(self, *arguments, **more)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(XModalError, match=r"statistics\.csv cannot be read or written \(No space left on device\)"):
        module.compare(
            ComparisonRequest(
                output, "900", ["2d"], ["nnUNetTrainer", "nnUNetTrainerCSAD"], folds=[0, 1, 2], overlays=0, processes=1
            )
        )
    assert {file: file.read_bytes() for file in output.iterdir() if file.is_file()} == before


def test_drawn_cases_have_a_page_to_look_at(results, compare, monkeypatch):
    for place in ("comparison.pages", "viewing.page"):
        monkeypatch.setattr(f"nnunet_xmodal.{place}.widget", str)
    results.add("nnUNetTrainer", shift=1)
    results.add("nnUNetTrainerCSAD", shift=2)
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "nnUNetTrainerCSAD", "--overlays", "2", "--viewer")
    pages = sorted((made.output / "view").iterdir())
    report = (made.output / "report.html").read_text(encoding="utf-8")
    assert len(pages) == 2 and all(f'href="view/{page.name}"' in report for page in pages)
    assert all("<figcaption>reference <output>" in page.read_text(encoding="utf-8") for page in pages)


def save_probabilities(results, trainer, channels=2):
    """For every prediction, of regions that overlap."""
    for file in results.model_folder(trainer).glob("fold_*/validation/*.nii.gz"):
        label_map = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        probabilities = np.stack([label_map > level for level in range(channels)]).astype(np.float16)
        np.savez_compressed(file.with_name(f"{file.name[:-7]}.npz"), probabilities=probabilities)


@pytest.mark.parametrize("panels, shown", [(6, True), (5, False)])
def test_pages_show_the_probabilities_that_were_saved(results, compare, monkeypatch, panels, shown):
    """Of one of two trainers: reference, two predictions, two probabilities, and an image."""
    for place in ("comparison.pages", "viewing.page"):
        monkeypatch.setattr(f"nnunet_xmodal.{place}.widget", str)
    monkeypatch.setattr("nnunet_xmodal.comparison.pages.MOST_PANELS", panels)
    for shift, trainer in enumerate(("nnUNetTrainer", "nnUNetTrainerCSAD"), start=1):
        results.add(trainer, shift=shift)
    save_probabilities(results, "nnUNetTrainerCSAD")
    made = compare(*MODELS, "-tr", "nnUNetTrainer", "nnUNetTrainerCSAD", "--overlays", "1", "--viewer")
    (page,) = (made.output / "view").iterdir()
    titles = re.findall("<figcaption>(.*?) <output>", page.read_text(encoding="utf-8"))
    expected = ["T2", "reference", "nnUNetTrainer", "nnUNetTrainerCSAD"]
    assert titles == expected + [f"nnUNetTrainerCSAD: probability of {label}" for label in ("whole", "core") if shown]


def test_a_fold_of_all_is_told_to_be_no_validation(results, compare):
    results.add("nnUNetTrainer", shift=1, folds={"all": ("a_1", "a_2")})
    made = compare("-d", "900", "-c", "2d", "-f", "all", "-tr", "nnUNetTrainer", "-np", "1", "--overlays", "0")
    assert "fold all was trained on the cases" in (made.output / "summary.md").read_text(encoding="utf-8")
    assert (made.output / "summary.md").read_text().startswith("# Dataset900_Spheres: 1 model on 2 cases")


def test_an_unwritable_folder_is_named_at_once(results, tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        main([*MODELS, "-tr", "nnUNetTrainer", "-o", str(tmp_path / "file" / "report")])
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_folder_without_permission_is_named(results, tmp_path, capsys, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        (closed / "probe").touch()
    except PermissionError:
        pass
    else:
        pytest.skip("this user may write everywhere")
    with pytest.raises(SystemExit):
        main([*MODELS, "-tr", "nnUNetTrainer", "-o", str(closed / "report")])
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.slow
def test_a_length_that_all_trainers_share_is_told_once(results, compare):
    trainers = ("nnUNetTrainer_5epochs", "nnUNetTrainerCSAD_5epochs")
    for trainer in trainers:
        results.add(trainer, shift=1)
    made = compare(*MODELS, "-tr", *trainers)
    assert {row["model"] for row in made.cases} == {"nnUNetTrainer", "nnUNetTrainerCSAD"}
    assert "trainers: nnUNetTrainer_5epochs, nnUNetTrainerCSAD_5epochs" in (made.output / "summary.md").read_text()
    results.add("nnUNetTrainerCSAD_9epochs", shift=1)
    made = compare(*MODELS, "-tr", trainers[0], "nnUNetTrainerCSAD_9epochs")
    assert {row["model"] for row in made.cases} == {trainers[0], "nnUNetTrainerCSAD_9epochs"}
