"""Extents of organs that users give."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from few_shot_scans import DATASET, PLANS, TRAINER, InMemory, ordered, run, scan, store_along, write

from nnunet_xmodal.commands.predict import parser, request_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.predict import predict


def table(tmp_path, *rows, separator=","):
    file = tmp_path / "extents.csv"
    file.write_text("\n".join(separator.join(map(str, row)) for row in (("case", "label", "first", "last"), *rows)))
    return file


def within(volume, first, last):
    """What `ordered` supports find between two slices, by thirds of these."""
    expected = np.zeros(volume.shape)
    for index in range(first, last + 1):
        value = (2, 4, 5)[(2 * (index - first) + 1) * 3 // (2 * (last - first + 1))]
        expected[index] = volume[index] == value
    return expected


class TestExtents:
    """Organs whose first and last slice are known."""

    @pytest.fixture
    def label(self, make_model):
        folder = make_model(InMemory(scan(2, 4, 5), label_of=ordered))
        write(folder / "fold_0" / "validation", "case0.nii.gz", scan(2))
        return next(name for name, value in json.loads((folder / "dataset.json").read_text())["labels"].items()
                    if value == 1)  # fmt: skip

    @pytest.mark.parametrize(
        "match, processes", [("position", 0), ("best", 0), pytest.param("best", 1, marks=pytest.mark.slow)]
    )
    def test_an_organ_is_sought_there_alone_by_its_thirds(self, label, tmp_path, match, processes):
        volume = scan(2, 4, 5, slices=9)
        flags = ["--match", match, "--extents", table(tmp_path, ("anna", label, 3, 8)), "-npp", processes]
        found = run(tmp_path, volume, *flags, "-nps", processes)
        np.testing.assert_array_equal(found, within(volume, 3, 8))

    @pytest.mark.parametrize("flags", [["--continue_prediction"], ["-num_parts", 2, "-part_id", 1]])
    def test_a_table_may_name_cases_that_others_predict_or_that_are_done(self, label, tmp_path, flags):
        """Of anna, who is predicted, and of bob, who comes next: one table for all calls."""
        volume = scan(2, 4, 5, slices=9)
        rows = [(case, label, 3, 8) for case in ("anna", "bob")]
        run(tmp_path, volume, "--extents", table(tmp_path, rows[0]))
        write(tmp_path / "in", "bob_0000.nii.gz", volume)
        found = run(tmp_path, volume, "--extents", table(tmp_path, *rows), *flags)
        np.testing.assert_array_equal(found, within(volume, 3, 8))
        bob = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "bob.nii.gz")))
        np.testing.assert_array_equal(bob, within(volume, 3, 8))

    def test_slices_are_those_of_the_file_whichever_way_it_is_stored(self, label, tmp_path):
        volume = scan(2, 4, 5, slices=9)
        run(tmp_path, volume)
        store_along(tmp_path / "in", "RAI")
        args = ["-i", tmp_path / "in", "-o", tmp_path / "again", "-d", DATASET, "-p", PLANS, "-c", "2d", "-tr", TRAINER]
        args += ["-device", "cpu", "--disable_progress_bar", "-npp", 0, "-nps", 0, "-f", 0]
        args += ["--extents", table(tmp_path, ("anna", label, 0, 5), separator=";")]
        predict(request_of(parser().parse_args([str(word) for word in args])))
        again = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "again" / "anna.nii.gz")), "LPS")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(again), within(volume, 3, 8))

    def test_others_are_found_as_without_a_table(self, make_model, write_support, tmp_path):
        make_model(InMemory(scan(2, 3)))
        support = write_support({"a": 1, "b": 2}, scan(4, 5), label_of=lambda volume: np.maximum(volume - 3, 0))
        volume = scan(5, 4, slices=6)
        expected = np.maximum(volume - 3, 0)
        expected[3:][expected[3:] == 2] = 0
        for name in ("b", 2):
            extents = table(tmp_path, ("anna", name, 0, 2))
            found = run(tmp_path, volume, "--support", support, "--extents", extents)
            np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        "row, sentence",
        [
            (("bob", "T", 1, 2), "line 2 of .*extents.csv names the case 'bob', which is not among the images"),
            (("anna", "liver", 1, 2), "line 2 of .*extents.csv names the label 'liver': take one of"),
            (("anna", "T", 3, 2), "has the slices '3' to '2': give the numbers of the first and the last slice"),
            (("anna", "T", -1, 2), "has the slices '-1' to '2': give the numbers"),
            (("anna", "T", 1, 2.5), "has the slices '1' to '2.5': give the numbers"),
            (("anna", "T", 1, 6), "from slice 1 to 6, but .*anna_0000.nii.gz has 6 slices, 0 to 5"),
        ],
    )
    def test_a_wrong_table_is_a_sentence_before_anything_is_written(self, label, tmp_path, row, sentence):
        row = tuple(label if cell == "T" else cell for cell in row)
        with pytest.raises(XModalError, match=sentence):
            run(tmp_path, scan(2, 4), "--extents", table(tmp_path, row))
        assert not (tmp_path / "out").exists()

    def test_an_organ_given_twice_and_no_table(self, label, tmp_path):
        with pytest.raises(XModalError, match="line 3 of .* gives 1 of anna a second time: delete one"):
            run(tmp_path, scan(2, 4), "--extents", table(tmp_path, ("anna", label, 1, 2), ("anna", 1, 1, 2)))
        (tmp_path / "extents.csv").write_text("case,label,from,to")
        with pytest.raises(XModalError, match="has no column first: its first line has to name case, label, first"):
            run(tmp_path, scan(2, 4), "--extents", tmp_path / "extents.csv")
