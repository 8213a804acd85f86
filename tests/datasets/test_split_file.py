"""Splits: what nnU-Net would find out one job after the other, or never."""

import json
from pathlib import Path

import pytest

from nnunet_xmodal.datasets.split_file import check_same_split, check_split, known_cases, read_split_file
from nnunet_xmodal.errors import XModalError

CASES = [f"c_{number:03d}" for number in range(6)]
GOOD = [{"train": [c for c in CASES if c != v], "val": [v]} for v in CASES[:5]]
FILE = Path("splits_final.json")


def check(split, folds=(0, 1, 2, 3, 4), cases=CASES):
    check_split(split, folds, FILE, {Path("nnUNetPlans_2d"): set(cases)})


def changed(**parts):
    return [{**GOOD[0], **parts}, *GOOD[1:]]


def test_a_split_of_known_cases():
    check(GOOD)
    check(changed(train=CASES[1:3]))  # cases may be left out


@pytest.mark.parametrize(
    "parts, sentence",
    [
        ({"train": [*CASES[1:], "c_099"]}, "fold 0 names c_099, which is no case in nnUNetPlans_2d: correct the name"),
        ({"train": CASES[1:], "val": ["c_099", "c_098"]}, "c_099 and 1 more"),
        ({"train": CASES[1:], "val": ["c_000.nii.gz"]}, "write c_000"),
        ({"train": CASES[1:], "val": ["c_000_0000"]}, "write c_000"),
        ({"train": CASES, "val": CASES[4:]}, "fold 0 validates on c_004 and 1 more, on which it trains .* -f all"),
        ({"val": []}, "fold 0 validates on no case"),
        ({"train": []}, "fold 0 trains on no case"),
        ({"train": [*CASES[1:], CASES[1]]}, "fold 0 trains on c_001 twice"),
        ({"val": [CASES[0], CASES[0]]}, "fold 0 validates on c_000 twice"),
    ],
)
def test_faults_are_named(parts, sentence):
    with pytest.raises(XModalError, match=sentence):
        check(changed(**parts))
    check(changed(**parts), folds=[1, 2, "all"])  # which the fault does not concern


@pytest.mark.parametrize(
    "text, sentence",
    [
        (json.dumps(GOOD)[:-30], "is no split: delete it.*in full"),
        ("", "is no split"),
        ("[]", "list of folds"),
        ("{}", "list of folds"),
        (json.dumps(GOOD[0]), "a single fold: put it in brackets"),
        (json.dumps({"0": GOOD[0]}), "list of folds"),
        (json.dumps([[CASES[:5], CASES[5:]]]), 'fold 0 has no list of names "train"'),
        (json.dumps([{"train": CASES}]), 'no list of names "val"'),
        (json.dumps([{"train": CASES, "val": "c_001"}]), 'no list of names "val"'),
        (json.dumps([{"train": CASES, "val": [1, 2]}]), 'no list of names "val"'),
        (json.dumps([*GOOD, None]), "fold 5"),
    ],
)
def test_other_files_are_no_split(tmp_path, text, sentence):
    file = tmp_path / "splits_final.json"
    file.write_text(text)
    with pytest.raises(XModalError, match=sentence):
        read_split_file(file)


def test_what_is_preprocessed(tmp_path):
    for name in ("a.b2nd", "a_seg.b2nd", "a.pkl", "b.npz", "b.pkl", "note.txt"):
        (tmp_path / name).touch()
    assert known_cases([tmp_path]) == {tmp_path: {"a", "b"}}


@pytest.mark.parametrize(
    "raw, preprocessed, fits",
    [
        (GOOD, [{part: cases[::-1] for part, cases in fold.items()} for fold in GOOD], True),
        (GOOD[:3], GOOD, True),
        (GOOD, GOOD[:3], False),
        (changed(train=CASES[2:]), GOOD, False),
        (None, GOOD, True),
        (GOOD, None, True),
    ],
)
def test_a_raw_split_is_that_of_the_preprocessed_dataset(tmp_path, raw, preprocessed, fits):
    """nnU-Net ends with an assertion or an index out of range, once fingerprints are extracted."""
    for name, split in (("raw", raw), ("preprocessed", preprocessed)):
        (tmp_path / name).mkdir()
        if split is not None:
            (tmp_path / name / "splits_final.json").write_text(json.dumps(split))
    if fits:
        check_same_split(tmp_path / "preprocessed", tmp_path / "raw")
    else:
        with pytest.raises(XModalError, match="preprocessed/splits_final.json divides the cases otherwise than .*raw"):
            check_same_split(tmp_path / "preprocessed", tmp_path / "raw")
