"""Which files belong to which case, and what labels are called."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.datasets.cases import label_values
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.preparation.label_maps import mapped, parse_labels, parse_map, regions_class_order, values_of
from nnunet_xmodal.preparation.patterns import paths_by_case
from nnunet_xmodal.preparation.recipe import read_recipe, recipe_names
from nnunet_xmodal.preparation.record import fingerprint_of
from nnunet_xmodal.preparation.sources import SourcePatterns, cases_in_csv, cases_in_folder


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "pattern, found",
    [
        ("*t2*", {"anna": ["anna/scan_t2.nii"], "bert": ["bert/t2_tra"]}),
        ("{case}/*t2*", {"anna": ["anna/scan_t2.nii"], "bert": ["bert/t2_tra"]}),
        ("**/*t2*.nii", {"anna": ["anna/scan_t2.nii"], "bert": ["bert/t2_tra/t2_1.nii"]}),
        ("flat/{case}_a[0-9].nii", {"x_y": ["flat/x_y_a1.nii"]}),
        ("flat/{case}_a[!0-9].nii", {"x_y": ["flat/x_y_ab.nii"]}),
        ("{case}/{case}_?.nii", {"carl": ["carl/carl_1.nii"]}),
        (
            "*t2*|{case}/{case}_1.nii",
            {"anna": ["anna/scan_t2.nii"], "bert": ["bert/t2_tra"], "carl": ["carl/carl_1.nii"]},
        ),
        ("t2.*", {}),
    ],
)
def test_patterns_find_cases(tmp_path, pattern, found):
    """A matching folder counts, not what matches in it."""
    touch(tmp_path, "anna/scan_t2.nii", "bert/t2_tra/t2_1.nii", "carl/carl_1.nii", "carl/dora_1.nii", ".hid/t2.nii")
    touch(tmp_path, "flat/x_y_a1.nii", "flat/x_y_ab.nii")
    paths = {case: [str(p.relative_to(tmp_path)) for p in of] for case, of in paths_by_case(tmp_path, pattern).items()}
    assert paths == found


def test_labels_may_lie_elsewhere(tmp_path):
    touch(tmp_path, "scans/anna/t2.nii", "masks/anna.nii", "masks/bert.nii")
    patterns = SourcePatterns({"T2W": "t2.nii"}, label=f"{tmp_path}/masks/{{case}}.nii")
    (case,) = cases_in_folder(tmp_path / "scans", patterns)
    assert case.label == tmp_path / "masks" / "anna.nii" and not case.faults
    with pytest.raises(XModalError, match="does not say where the case is"):
        cases_in_folder(tmp_path / "scans", SourcePatterns({"T2W": "t2.nii"}, label=f"{tmp_path}/masks/*.nii"))


def test_what_is_missing_or_there_twice_is_a_fault_of_its_case(tmp_path):
    touch(tmp_path, "a/t2.nii", "a/adc.nii", "b/t2.nii", "c/t2.nii", "c/adc.nii", "c/adc2.nii", "empty/x")
    cases = cases_in_folder(tmp_path, SourcePatterns({"T2W": "t2*", "ADC": "adc*"}))
    faults = {case.name: " ".join(case.faults) for case in cases}
    assert list(faults) == ["a", "b", "c", "empty"]
    assert faults["a"] == ""
    assert faults["b"] == "ADC is missing."
    assert "adc.nii and" in faults["c"] and "both match the pattern of ADC" in faults["c"]
    assert faults["empty"] == "T2W and ADC are missing."
    with pytest.raises(XModalError, match="no file in .* matches y\\*, the pattern of ADC"):
        cases_in_folder(tmp_path, SourcePatterns({"T2W": "t2*", "ADC": "y*"}))


def test_a_file_is_one_channel_or_the_label(tmp_path):
    touch(tmp_path, "a/t1.nii", "a/tc.nii", "a/mask.nii", "b/t1_tc.nii", "b/mask.nii", "c/t1.nii", "c/tc_mask.nii")
    cases = cases_in_folder(tmp_path, SourcePatterns({"T1": "*t1*", "T1c": "*tc*"}, "*mask*"), True)
    faults = {case.name: " ".join(case.faults) for case in cases}
    assert faults["a"] == ""
    assert "t1_tc.nii would be both T1 and T1c: narrow their patterns" in faults["b"]
    assert "tc_mask.nii would be both T1c and the label" in faults["c"]
    table = tmp_path / "cases.csv"
    table.write_text("case,channel,file,label\na,T1,a/t1.nii,a/t1.nii\n")
    (case,), _ = cases_in_csv(table)
    assert "t1.nii would be both T1 and the label" in case.faults[0]


@pytest.mark.parametrize("header, line", [("t2.mhd", "ElementDataFile = t2.raw"), ("t2.nhdr", "data file: t2.raw")])
def test_an_input_is_its_voxels_and_nothing_that_systems_leave(tmp_path, header, line):
    (tmp_path / header).write_text(f"of a header\n{line}\n")
    (tmp_path / "t2.raw").write_bytes(b"12")
    before = fingerprint_of([tmp_path / header], {})
    (tmp_path / "t2.raw").write_bytes(b"123")
    assert fingerprint_of([tmp_path / header], {}) != before
    before = fingerprint_of([tmp_path], {})
    touch(tmp_path, ".DS_Store", "._t2.raw")
    assert fingerprint_of([tmp_path], {}) == before
    touch(tmp_path, "another")
    assert fingerprint_of([tmp_path], {}) != before


def test_names_become_file_names(tmp_path):
    touch(tmp_path, "Meier, Anna/t2.nii")
    assert cases_in_folder(tmp_path, SourcePatterns({"T2W": "t2*"}))[0].name == "Meier_Anna"
    touch(tmp_path, "Meier Anna/t2.nii")
    with pytest.raises(XModalError, match="would both be called Meier_Anna"):
        cases_in_folder(tmp_path, SourcePatterns({"T2W": "t2*"}))


@pytest.mark.parametrize("pattern", ["*[z-a]*", "*[\\]*"])
def test_brackets_that_mean_nothing_are_a_sentence(tmp_path, pattern):
    (tmp_path / "p1").mkdir()
    (tmp_path / "p1" / "t2.nii.gz").touch()
    with pytest.raises(XModalError, match="the part .* of a pattern is none .*: correct what is in its brackets"):
        paths_by_case(tmp_path, pattern)


def test_no_case_is_hidden(tmp_path):
    """nnU-Net would take its files for images and planning refuses them."""
    (tmp_path / "t2.nii.gz").touch()
    table = tmp_path / "list.csv"
    table.write_text("case,channel,file\n.hidden,T2,t2.nii.gz\n../up,T2,t2.nii.gz\n")
    cases, _ = cases_in_csv(table)
    assert [case.name for case in cases] == ["_up", "hidden"]
    table.write_text("case,channel,file\n..,T2,t2.nii.gz\n")
    with pytest.raises(XModalError, match=r"'\.\.' is no name of a case"):
        cases_in_csv(table)


def test_a_table_lists_cases(tmp_path):
    touch(tmp_path, "1.nii", "2.nii", "3.nii", "l.nii", "t.tfm")
    table = tmp_path / "cases.csv"
    table.write_text(
        "case,channel,file,label,transform\na,T2W,1.nii,l.nii,\na,ADC,2.nii,,t.tfm\nb,T2W,3.nii,,\nb,ADC,no.nii,,\n"
        "c,T2W,1.nii,l.nii,\nc,T2W,2.nii,1.nii,\n"
    )
    cases, channels = cases_in_csv(table)
    assert channels == ["T2W", "ADC"]
    a, b, c = cases
    assert (a.images["ADC"], a.label, a.transforms) == (
        tmp_path / "2.nii",
        tmp_path / "l.nii",
        {"ADC": tmp_path / "t.tfm"},
    )
    assert "no.nii does not exist" in b.faults[0]
    assert any("two files of T2W" in fault for fault in c.faults) and any("two labels" in fault for fault in c.faults)
    assert cases_in_csv(table, ["ADC"])[0][0].images == {"ADC": tmp_path / "2.nii"}
    with pytest.raises(XModalError, match="no row of the channel DWI"):
        cases_in_csv(table, ["DWI"])
    table.write_text("case,file\na,1.nii\n")
    with pytest.raises(XModalError, match="no column channel"):
        cases_in_csv(table)


@pytest.mark.parametrize(
    "text",
    [
        "case;channel;file;label\np1;T2W;1.nii;l.nii\np1;ADC;2.nii;\n",
        "Case, Channel, File, Label\n p1, T2W, 1.nii, l.nii\np1 ,ADC ,2.nii ,\n,,,\n",
        "case\tchannel\tfile\tlabel\r\np1\tT2W\t1.nii\tl.nii\r\np1\tADC\t2.nii\t\r\n",
        "sep=;\ncase;channel;file;label\np1;T2W;1.nii;l.nii\np1;ADC;2.nii\n",
    ],
)
def test_a_table_of_any_spreadsheet(tmp_path, text):
    touch(tmp_path, "1.nii", "2.nii", "l.nii")
    table = tmp_path / "cases.csv"
    table.write_text(text)
    (case,), channels = cases_in_csv(table)
    assert channels == ["T2W", "ADC"] and case.name == "p1" and not case.faults
    assert case.images == {"T2W": tmp_path / "1.nii", "ADC": tmp_path / "2.nii"} and case.label == tmp_path / "l.nii"


def test_values_change_at_once(scans, tmp_path):
    """1 ↔ 2 does not lose one of them."""
    image = sitk.GetImageFromArray([[[0, 1, 2, 4]]])
    labels = parse_labels(["whole=1,2,3", "core=2,3", "enhancing=3"])
    changed = mapped(image, tmp_path, parse_map(["1:2", "2:1", "4:3"]), labels)
    assert sitk.GetArrayFromImage(changed).ravel().tolist() == [0, 2, 1, 3]
    with pytest.raises(XModalError, match="holds the label 4, which none of"):
        mapped(image, tmp_path, {}, labels)
    with pytest.raises(XModalError, match="holds 0.5, which is no label"):
        mapped(sitk.GetImageFromArray([[[0, 0.5]]]), tmp_path, {}, labels)


def test_a_negative_value_can_be_mapped(tmp_path):
    image = sitk.GetImageFromArray(np.array([[[-1, 0, 1]]], np.int16))
    labels = parse_labels(["lesion=1"])
    with pytest.raises(XModalError, match="give --map -1:0"):
        mapped(image, tmp_path, {}, labels)
    for word in ("-1:0", " -1:0"):  # as the command hands it on
        changed = mapped(image, tmp_path, parse_map([word]), labels)
        assert sitk.GetArrayFromImage(changed).ravel().tolist() == [0, 0, 1]
    for word in ("-:0", "1:-1", "--1:0", "-1"):
        with pytest.raises(XModalError, match="--map takes pairs such as 4:3"):
            parse_map([word])


def test_the_order_of_regions_gives_every_value_back():
    """nnU-Net writes regions one after the other; of a label map's regions that makes the label map."""
    labels = parse_labels(["whole=1,2,3", "core=2,3", "enhancing=3"])
    order = regions_class_order(labels)
    assert order == [1, 2, 3]
    for value in range(4):
        written = 0
        for name, new in zip(("whole", "core", "enhancing"), order):
            written = new if value in values_of(name, labels) else written
        assert written == value
    assert regions_class_order(parse_labels(["lesion=1"])) is None
    with pytest.raises(XModalError, match="name larger regions first"):
        parse_labels(["core=2", "whole=1,2", "part=1"])


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["lesion"], "got lesion"),
        (["a=1", "a=2"], "names a twice"),
        (["a=1", "b=1"], "two labels have one value"),
        (["a=1", "b=3"], "without a gap: map one to 2"),
        (["background=1"], "has the value 0"),
        (["ignore=1", "lesion=2"], "ignore has the value 1, and nnU-Net wants it last: 2"),
        (["ignore=1,2", "lesion=2"], "nnU-Net wants it last: 2"),
        (["background=0"], "no label but background"),
    ],
)
def test_impossible_labels_are_sentences(words, sentence):
    with pytest.raises(XModalError, match=sentence):
        parse_labels(words)


def test_every_recipe_can_be_read(tmp_path):
    for name in recipe_names():
        recipe = read_recipe(name)
        known = set(recipe["channels"])
        assert recipe.get("reference") in {None, *known}  # None: the first that is taken
        assert {channel for stream in recipe.get("streams", []) for channel in stream} <= known
        if "map" in recipe:
            assert set(recipe["map"].values()) <= label_values(recipe)
    with pytest.raises(XModalError, match="there is no recipe acdc: take one of bids, brats, brats2023, chaos"):
        read_recipe("acdc")
    own = tmp_path / "own.json"
    own.write_text(json.dumps({"channels": {"A": "a*"}, "colour": 1}))
    with pytest.raises(XModalError, match="the key colour"):
        read_recipe(str(own))


def test_a_folder_that_may_not_be_entered_holds_nothing(tmp_path, monkeypatch):
    for folder in ("anna", "lost+found"):
        (tmp_path / folder).mkdir()
    (tmp_path / "anna" / "t2w.nii.gz").touch()
    iterdir = Path.iterdir

    def guarded(path):
        if path.name == "lost+found":
            raise PermissionError(path)
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", guarded)
    assert list(paths_by_case(tmp_path, "**/*t2w*")) == ["anna"]
    assert fingerprint_of([tmp_path / "lost+found"], {})


@pytest.mark.parametrize(
    "rows, channels, sentence",
    [
        ("a,T2W,1.nii", ["T2W", "T2W"], "--channels names T2W twice"),
        ("a,,1.nii", [], "line 2 of .*cases.csv has the file 1.nii and names no channel"),
        ("a,T2W,1.nii\nb,,1.nii", [], "line 3 of .*cases.csv has the file 1.nii and names no channel"),
        ("a,,", [], "cases.csv names no channel: it needs a row for every image"),
    ],
)
def test_a_table_without_a_channel_or_with_one_twice_is_a_sentence(tmp_path, rows, channels, sentence):
    touch(tmp_path, "1.nii")
    (tmp_path / "cases.csv").write_text(f"case,channel,file\n{rows}\n")
    with pytest.raises(XModalError, match=sentence):
        cases_in_csv(tmp_path / "cases.csv", channels)
