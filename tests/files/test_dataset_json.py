"""What a dataset.json may say, and that what nnU-Net would misunderstand is said before anything is written."""

import codecs
import json

import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_json import check_dataset_json, read_dataset_json, read_plannable, read_trainable
from nnunet_xmodal.files.dataset_labels import check_labels, suggested_order, wrongly_written

GOOD = {
    "channel_names": {"0": "T2W", "1": "ADC"},
    "labels": {"background": 0, "lesion": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}
NESTED = {"background": 0, "whole": [1, 2], "core": 2}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "dataset.json"


def written(file, **changes):
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": {"background": 0, "lesion": 1, "ignore": 2}},
        {"labels": {"lesion": 1, "background": 0}},
        {"labels": {"background": 0, "lesion": [1]}},
        {"labels": NESTED, "regions_class_order": [1, 2]},
        {"labels": {**NESTED, "ignore": 3}, "regions_class_order": [1, 2]},
        {"labels": {"background": 0, "a": [1, 2], "b": [2, 3], "c": [2]}, "regions_class_order": [1, 3, 2]},
        {"labels": {"background": 0, "both": [1, 2], "one": 1, "two": 2}, "regions_class_order": [1, 1, 2]},
        {"channel_names": None, "modality": {"0": "T2W", "1": "ADC"}},
        {"numTraining": None},
        {"numTraining": 2.0},
        {"file_ending": ".png"},
        {"file_ending": ".dcm", "overwrite_image_reader_writer": "SimpleITKIO"},
        {"description": "Gefäß"},
    ],
)
def test_what_nnunet_can_learn_is_read(file, changes):
    content = read_trainable(written(file, **changes))
    LabelManager(content["labels"], content.get("regions_class_order"))  # which asserts


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ({"0": "background", "1": "lesion"}, r'other way round.*write \{"background": 0, "lesion": 1\}'),
        ({"0": "background", "1": "lesion", "2": "core"}, "other way round"),
        (["background", "lesion"], r'are a list.*\{"background": 0, "lesion": 1\}'),
        ([], "write"),
        ("lesion", "write"),
        ({}, "write"),
        ({"background": 0, "lesion": "1"}, 'lesion of .* is the text "1": write the number 1'),
        ({"background": "0", "lesion": "1"}, "is the text"),
        ({"background": 0, "whole": ["1", 2]}, "whole .* is the text"),
        ({"background": 0, "lesion": None}, "has the value null"),
        ({"background": 0, "lesion": True}, "has the value true"),
        ({"background": 0, "lesion": 1.0}, r"has the value 1\.0"),
        ({"background": 0, "lesion": -1}, "has the value -1"),
        ({"background": 0, "lesion": []}, "no values"),
        ({"background": 0, "lesion": [1, 1]}, "names a value twice"),
        ({"background": 0, "lesion": 1, "ignore": [2]}, "ignore of .* a region"),
    ],
)
def test_another_form_of_labels_is_named(file, labels, sentence):
    with pytest.raises(XModalError, match=sentence):
        read_dataset_json(written(file, labels=labels))


@pytest.mark.parametrize(
    "labels, sentence",
    [
        ({"lesion": 1}, 'no label background.*add "background": 0'),
        ({"Background": 0, "lesion": 1}, 'rename "Background"'),
        ({"background": 1, "lesion": 2}, "nnU-Net wants 0"),
        ({"background": [0], "lesion": 1}, "nnU-Net wants 0"),
        ({"background": 0}, "no label but background"),
        ({"background": 0, "ignore": 1}, "no label but background"),
        ({"background": 0, "lesion": 1, "core": 3}, "values 0, 1, 3.*write 2 instead of 3"),
        ({"background": 0, "lesion": 255}, "without a gap"),
        ({"background": 0, "lesion": 2}, "write 1 instead of 2"),
        ({"background": 0, "lesion": 1, "ignore": 255}, "without a gap"),
        ({"background": 0, "ignore": 1, "core": 2}, "ignore of .* has the value 1.*wants it last: give it 3"),
        ({"background": 0, "lesion": 1, "ignore": 1}, "ignore of .* give it 2"),
        ({"background": 0, "lesion": 1, "ignore": 0}, "ignore of .* give it 2"),
        ({"background": 0, "lesion": 1, "tumour": 1}, "lesion and tumour of .* both have the value 1"),
        ({"background": 0, "lesion": 1, "nothing": 0}, "background and nothing"),
        ({"background": 0, "whole": [1, 3], "core": 3}, "without a gap"),
    ],
)
def test_labels_that_cannot_be_learnt_are_named(file, labels, sentence):
    with pytest.raises(XModalError, match=sentence):
        read_trainable(written(file, labels=labels))


@pytest.mark.parametrize(
    "labels, order, sentence",
    [
        (NESTED, None, r'no "regions_class_order": write "regions_class_order": \[1, 2\]'),
        (NESTED, [1], r"1 values \(\[1\]\) for 2 regions"),
        (NESTED, [0, 1, 2], "3 values"),
        (NESTED, [], "0 values"),
        (NESTED, "1,2", "no list of whole numbers"),
        (NESTED, ["1", "2"], "no list of whole numbers"),
        (NESTED, [2, 2], r"core would get voxels of 1, written as 2.*\[1, 2\]"),
        (NESTED, [1, 1], r"core \(2\) would be written as 1"),
        (NESTED, [2, 1], r"core \(2\) would be written as 1"),
        (NESTED, [1, 3], r"whole|core"),
        (NESTED, [0, 2], r"whole \(1\) would be written as 0"),
        (
            {"background": 0, "whole": [1, 2], "core": 1},
            [1, 2],
            r'core \(1\) would be written as 2 .*"regions_class_order": \[2, 1\]',
        ),
        ({"background": 0, "core": 2, "whole": [1, 2]}, [2, 1], r"core \(2\).*name the regions as whole, core"),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, [1, 3, 2], r"enhancing \(3\)"),
        ({"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}, [1, 3, 3], "enhancing .* of 2"),
    ],
)
def test_regions_that_would_be_written_as_another_are_named(file, labels, order, sentence):
    with pytest.raises(XModalError, match=sentence):
        read_trainable(written(file, labels=labels, regions_class_order=order))


def test_what_is_written_is_what_nnunet_writes():
    """A map of every value, predicted perfectly, comes back with the same regions exactly where nothing is raised."""
    import itertools

    import numpy as np

    regions = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    truth = np.arange(4)
    for order in itertools.product(range(5), repeat=3):
        manager = LabelManager({"background": 0, **{n: list(v) for n, v in regions.items()}}, list(order))
        inside = np.stack([np.isin(truth, values) for values in regions.values()]).astype(float)
        result = manager.convert_probabilities_to_segmentation(inside)
        told = all((np.isin(result, v) == np.isin(truth, v)).all() for v in regions.values())
        assert told == (wrongly_written(regions, order) is None), order
    assert suggested_order(regions) == [1, 2, 3]


def test_an_order_without_regions_does_not_matter():
    check_labels({"background": 0, "lesion": 1}, [7, 7, 7], "here")


@pytest.mark.parametrize(
    "changes, sentence",
    [
        ({"file_ending": "nii.gz"}, r'is "nii\.gz": write "\.nii\.gz"'),
        ({"file_ending": "*.nii.gz"}, r'write "\.nii\.gz"'),
        ({"file_ending": "_0000.nii.gz"}, r'write "\.nii\.gz"'),
        ({"file_ending": ".nii.gz "}, r'write "\.nii\.gz"'),
        ({"file_ending": ""}, "write for example"),
        ({"file_ending": [".nii.gz"]}, "write for example"),
        ({"file_ending": ".dcm"}, "no reader of nnU-Net reads"),
        ({"channel_names": ["T2W", "ADC"]}, r'are a list.*write \{"0": "T2W", "1": "ADC"\}'),
        ({"channel_names": None, "modality": ["T2W", "ADC"]}, r'"modality".*are a list'),
        ({"channel_names": "T2W"}, r'write \{"0": "T2W"\}'),
        ({"channel_names": {"T2W": "0", "ADC": "1"}}, r'other way round: write \{"0": "T2W", "1": "ADC"\}'),
        ({"channel_names": {"0": 1}}, "calls channel 0 1"),
        ({"channel_names": {"1": "T2W", "2": "ADC"}}, "count them from 0"),
        ({"channel_names": {"0": "T2W", "2": "ADC"}}, "count them from 0"),
        ({"channel_names": {}}, "names no channels"),
        ({"modality": {"0": "T2W"}}, 'delete "modality"'),
        ({"numTraining": "2"}, 'is the text "2".*write the number 2'),
        ({"numTraining": "two"}, "write how many"),
        ({"numTraining": [2]}, "write how many"),
        ({"numTraining": 1.5}, "write how many"),
        ({"overwrite_image_reader_writer": "os.system"}, "no reader of nnU-Net: take one of .*SimpleITKIO"),
        ({"overwrite_image_reader_writer": "NoSuchIO"}, "no reader of nnU-Net"),
        ({"overwrite_image_reader_writer": 5}, "is 5, which is no reader"),
        ({"xmodal": [1]}, r'"xmodal" of .* is \[1\]: write'),
        ({"dataset": ["a"]}, '"dataset" of .* lists no cases'),
        ({"dataset": {"a": ["x"]}}, 'lists no "images" of a'),
        ({"dataset": {"a": {"image": "x"}}}, 'lists no "images" of a'),
        ({"dataset": {"a": {"images": "x"}}}, 'lists no "images" of a'),
        ({"dataset": {"a": {"images": ["x"], "label": None}}}, '"label" of a in .* is null'),
    ],
)
def test_other_entries_are_named(file, changes, sentence):
    with pytest.raises(XModalError, match=sentence):
        read_dataset_json(written(file, **changes))


@pytest.mark.parametrize("missing", ["labels", "file_ending", "channel_names"])
def test_a_missing_entry_is_named(file, missing):
    content = read_dataset_json(written(file, **{missing: None}))
    with pytest.raises(XModalError, match=f'no "{missing}"'):
        check_dataset_json(content, file)


def test_planning_needs_a_number_of_cases(file):
    assert read_plannable(written(file)) == GOOD
    with pytest.raises(XModalError, match='no "numTraining": add'):
        read_plannable(written(file, numTraining=None))


TEXT = json.dumps({**GOOD, "description": "Gefäß"}, ensure_ascii=False)


@pytest.mark.parametrize(
    "raw, sentence",
    [
        (TEXT.encode("latin-1"), "is not in UTF-8 .*Gef"),
        (TEXT.encode("utf-16"), "is UTF-16"),
        (TEXT.encode("utf-16-le"), "zero bytes"),
        (TEXT.encode("utf-32"), "is UTF-32"),
        (codecs.BOM_UTF8 + TEXT.encode(), "byte order mark"),
        (TEXT.encode()[:40], "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "an object"),
        (b'{"labels": ' + b"[" * 100_000, r"dataset\.json nests lists or objects too deeply"),
        (b'{"labels": {"background": 0, "lesion": 1, "lesion": 2}}', 'the key "lesion" twice'),
    ],
)
def test_a_file_that_is_not_plain_json_is_named(file, raw, sentence):
    file.write_bytes(raw)
    with pytest.raises(XModalError, match=sentence):
        read_dataset_json(file)


def test_a_missing_file_is_named(file):
    with pytest.raises(XModalError, match=r"dataset\.json is missing"):
        read_dataset_json(file)
