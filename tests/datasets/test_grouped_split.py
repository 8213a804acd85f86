"""No subject on both sides of a fold; every case validated once; a split that was used is not replaced."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnunet_xmodal.datasets.grouped_split import (
    GROUPS_FILE,
    grouped_split,
    read_split,
    split_by_pattern,
    subjects_of,
    tell_of_shared_subjects,
    trained_folds,
    write_grouped_split,
)
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json

CASES = [f"patient{patient}_visit{visit}" for patient in range(7) for visit in range(patient % 3 + 1)]
VISITS = r"^(.+)_visit\d+$"


@given(st.lists(st.integers(0, 30), min_size=5, max_size=80).filter(lambda subjects: len(set(subjects)) >= 5))
def test_subjects_stay_together_and_every_case_is_validated_once(numbers):
    subjects = {f"case{index:02d}": f"subject{number}" for index, number in enumerate(numbers)}
    split = grouped_split(subjects)
    assert sorted(case for fold in split for case in fold["val"]) == sorted(subjects)
    for fold in split:
        assert sorted(fold["train"] + fold["val"]) == sorted(subjects)
        assert not {subjects[case] for case in fold["train"]} & {subjects[case] for case in fold["val"]}
    assert split == grouped_split(dict(reversed(subjects.items())))


def test_folds_are_as_even_as_the_subjects_allow():
    split = grouped_split({f"case{index:02d}": str(index // 2) for index in range(40)})
    assert [len(fold["val"]) for fold in split] == [8] * 5


def test_subjects_by_expression():
    assert subjects_of(["p7_visit2", "p7_visit3"], VISITS) == {"p7_visit2": "p7", "p7_visit3": "p7"}
    assert subjects_of(["sub-01_ses-2"], r"sub-\d+") == {"sub-01_ses-2": "sub-01"}


@pytest.mark.parametrize("ending", [".csv", ".CSV"])
def test_subjects_by_file(ending, tmp_path):
    file = tmp_path / f"subjects{ending}"
    file.write_bytes("\ufeffcase,subject\r\na, Zoë\r\n\r\nb,Zoë\r\nunused,x\r\n".encode())
    assert subjects_of(["a", "b"], str(file)) == {"a": "Zoë", "b": "Zoë"}


@pytest.mark.parametrize(
    "text", ["a;one\nb;two\n", "a\tone\nb\ttwo\n", " a , one \n\n,\nb,two\n", "sep=;\na;one\nb;two"]
)
def test_subjects_by_a_file_of_a_spreadsheet(text, tmp_path):
    file = tmp_path / "subjects.csv"
    file.write_text(text)
    assert subjects_of(["a", "b"], str(file)) == {"a": "one", "b": "two"}


@pytest.mark.parametrize(
    "content, sentence",
    [
        ("a one\nb two\n", "has 1 columns in line 1: each is a case, a comma, a subject"),
        ("a,one,more\n", "has 3 columns in line 1"),
        ("a,one\n", "names no subject for the case b: add a line `b,<subject>`"),
        ("a,one\nb,\n", "names no subject for the case b"),
        ("a,one\nb,two\na,two\n", "gives the case a two subjects, one and two"),
        ("", "names no subject for the case a"),
    ],
)
def test_files_that_do_not_name_one_subject_per_case(content, sentence, tmp_path):
    file = tmp_path / "subjects.csv"
    file.write_text(content)
    with pytest.raises(XModalError) as error:
        subjects_of(["a", "b"], str(file))
    assert sentence in str(error.value) and str(file) in str(error.value)


def test_a_file_in_an_old_encoding_still_tells_subjects_apart(tmp_path):
    file = tmp_path / "subjects.csv"
    file.write_bytes("a,Zoë\nb,Zoé\n".encode("latin-1"))
    subjects = subjects_of(["a", "b"], str(file))
    assert subjects["a"] != subjects["b"]


@pytest.mark.parametrize(
    "expression, sentence",
    [
        ("(unclosed", "is no regular expression"),
        ("nobody", "finds no subject in the case name a"),
        ("(x?)", "finds no subject in the case name a"),
        ("b|a(x)?", "finds no subject in the case name a"),
        ("absent.csv", "absent.csv does not exist"),
    ],
)
def test_expressions_that_find_no_subject(expression, sentence):
    with pytest.raises(XModalError, match="--group-by") as error:
        subjects_of(["a"], expression)
    assert sentence in str(error.value)


def test_fewer_subjects_than_folds():
    with pytest.raises(XModalError, match="finds 4 subjects in 8 cases, but 5 folds need at least 5"):
        grouped_split({f"case{index}": str(index % 4) for index in range(8)})


@pytest.fixture
def folders(tmp_path):
    made = tmp_path / "preprocessed", tmp_path / "results"
    for folder in made:
        folder.mkdir()
    return made


def test_the_split_and_its_subjects_are_written_once(folders):
    preprocessed, results = folders
    subjects = subjects_of(CASES, VISITS)
    assert write_grouped_split(preprocessed, results, subjects)
    assert json.loads((preprocessed / "splits_final.json").read_text()) == grouped_split(subjects)
    assert json.loads((preprocessed / GROUPS_FILE).read_text()) == subjects
    assert not write_grouped_split(preprocessed, results, subjects)
    assert sorted(file.name for file in preprocessed.iterdir()) == ["splits_final.json", GROUPS_FILE]


def test_a_split_that_no_training_used_is_replaced_and_kept(folders):
    preprocessed, results = folders
    (results / "model" / "fold_all").mkdir(parents=True)  # knows no split
    (results / "model" / "fold_all" / "checkpoint_final.pth").touch()
    (results / "model" / "fold_1").mkdir()  # nothing came of it
    before = [{"train": ["a"], "val": ["b"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(before))
    assert write_grouped_split(preprocessed, results, subjects_of(CASES, VISITS))
    assert json.loads((preprocessed / "splits_final_replaced.json").read_text()) == before


@pytest.mark.parametrize("left", ["checkpoint_best.pth", "training_log_2025_1_1.txt", "validation/summary.json"])
def test_a_split_that_a_training_used_stays(left, folders):
    preprocessed, results = folders
    file = results / "model" / "fold_1" / left
    file.parent.mkdir(parents=True)
    file.touch()
    assert list(trained_folds(results)) == [results / "model" / "fold_1"]
    before = json.dumps([{"train": ["a"], "val": ["b"]}])
    (preprocessed / "splits_final.json").write_text(before)
    with pytest.raises(XModalError, match="fold_1 was trained on the split in .*move the results away"):
        write_grouped_split(preprocessed, results, subjects_of(CASES, VISITS))
    assert (preprocessed / "splits_final.json").read_text() == before
    assert [file.name for file in preprocessed.iterdir()] == ["splits_final.json"]


@pytest.mark.parametrize("content", ['[{"train": [', "3", "[3]", '[{"train": []}]'])
def test_a_file_that_is_no_split_is_named(content, tmp_path):
    file = tmp_path / "splits_final.json"
    assert read_split(file) is None
    file.write_text(content)
    with pytest.raises(XModalError, match="splits_final.json is no split: delete it"):
        read_split(file)


@given(st.lists(st.integers(0, 6), min_size=5, max_size=60))
def test_folds_have_as_many_cases_of_each_pattern_as_can_be(numbers):
    patterns = {f"case{index:02d}": str(number) for index, number in enumerate(numbers)}
    split = split_by_pattern(patterns)
    assert sorted(case for fold in split for case in fold["val"]) == sorted(patterns)
    assert split == split_by_pattern(dict(reversed(patterns.items())))
    for pattern in (*set(patterns.values()), None):
        counts = [sum(pattern in (None, patterns[case]) for case in fold["val"]) for fold in split]
        assert max(counts) - min(counts) <= 1
    assert all(sorted(fold["train"] + fold["val"]) == sorted(patterns) for fold in split)


def test_subjects_stay_together_where_patterns_are_balanced(folders):
    """Patterns in blocks, which folds by subject alone do not look at."""
    subjects = {f"case{index:02d}": str(index // 2) for index in range(60)}
    patterns = {case: "complete" if case < "case30" else "no T1c" for case in subjects}
    split = grouped_split(subjects, patterns=patterns)
    for fold in split:
        assert not {subjects[case] for case in fold["train"]} & {subjects[case] for case in fold["val"]}
        assert Counter(patterns[case] for case in fold["val"]) == {"complete": 6, "no T1c": 6}
    rare = {case: case for case in subjects}
    assert grouped_split(subjects, patterns=rare) == grouped_split(subjects)
    preprocessed, results = folders
    assert write_grouped_split(preprocessed, results, subjects, patterns)
    assert json.loads((preprocessed / "splits_final.json").read_text()) == split


def test_a_split_that_divides_a_subject_is_remarked_on(tmp_path, capsys):
    split = [
        {"train": ["anna_1", "bert_1"], "val": ["anna_2"]},
        {"train": ["bert_1"], "val": ["anna_1", "anna_2"]},
    ]
    file = tmp_path / "splits_final.json"
    tell_of_shared_subjects(split, [0, 1, "all"], file)  # nothing was noted
    write_json({"anna_1": "anna", "anna_2": "anna", "bert_1": "bert"}, tmp_path / GROUPS_FILE)
    assert not "".join(capsys.readouterr())
    tell_of_shared_subjects(split, [0, 1, "all"], file)
    told = "".join(capsys.readouterr())
    assert "fold 0 validates on cases of anna, on others of which it trains" in told and "fold 1" not in told
