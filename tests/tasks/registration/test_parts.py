"""Starts, extents, checkerboards and the table, each by itself."""

import csv

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.figures.checkerboard import checkerboard
from nnunet_xmodal.geometry.grid_chain import physical_matrix
from nnunet_xmodal.geometry.volume_grid import overlap
from nnunet_xmodal.tasks.registration.initial_transform import initial_transform
from nnunet_xmodal.tasks.registration.table import COLUMNS, RegistrationTable


def volume(array, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0), direction=None):
    image = sitk.GetImageFromArray(np.asarray(array, np.float32))
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(np.asarray(direction, float).flatten().tolist())
    return image


def with_blob(place, shape=(20, 24, 28), background=0.0, **geometry):
    z, y, x = np.indices(shape)
    distance = sum((axis - at) ** 2 for axis, at in zip((x, y, z), place))
    return volume(background + 100 * (distance <= 9), **geometry)


@pytest.mark.parametrize("background", [0.0, -1000.0])
def test_moments_lay_the_centres_of_mass_on_each_other(background):
    """Also of an image whose background is below 0, as air is in CT."""
    fixed = with_blob((8, 9, 10), background=background)
    moving = with_blob((15, 12, 6), background=background, spacing=(2.0, 1.0, 1.5), origin=(100.0, -50.0, 7.0))
    transform = initial_transform("moments", fixed, moving)
    np.testing.assert_allclose(transform.TransformPoint((8.0, 9.0, 10.0)), (130.0, -38.0, 16.0), atol=1e-3)


def test_geometry_lays_the_centres_of_the_volumes_on_each_other_and_turns_nothing():
    turned = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    fixed, moving = volume(np.ones((11, 21, 31))), volume(np.ones((5, 5, 5)), (2, 2, 2), (40, 50, 60), turned)
    matrix = physical_matrix(initial_transform("geometry", fixed, moving))
    np.testing.assert_allclose(matrix[:3, :3], np.eye(3))
    np.testing.assert_allclose(matrix[:3, :3] @ (15, 10, 5) + matrix[:3, 3], (36, 54, 64))
    np.testing.assert_allclose(physical_matrix(initial_transform("none", fixed, moving)), np.eye(4))


def test_a_constant_image_has_no_centre_of_mass():
    with pytest.raises(XModalError, match="one is 1 everywhere"):
        initial_transform("moments", with_blob((8, 9, 10)), volume(np.ones((5, 5, 5))))


def test_extents_meet_or_do_not():
    fixed, shift = volume(np.ones((100, 100, 100))), np.eye(4)
    slab = volume(np.ones((2, 50, 50)), (1, 1, 0.1), (20, 20, 50.3))  # between the points of a lattice
    assert overlap(fixed, slab, shift)
    shift[2, 3] = 60.0
    assert overlap(fixed, volume(np.ones((5, 5, 5)), origin=(0, 0, 150)), shift)
    assert not overlap(fixed, volume(np.ones((5, 5, 5)), origin=(0, 0, 40)), shift)


def test_a_checkerboards_fields_meet_in_the_middle():
    board = checkerboard(np.ones((8, 12)), np.zeros((8, 12)), (2, 3))
    assert board[4, 6] == board[3, 5] == 1 and board[3, 6] == board[4, 5] == 0
    assert (board[:2, :3] == board[0, 0]).all() and (board == board[::-1, ::-1]).all()
    assert board.mean() == 0.5


def test_the_table_keeps_what_it_holds_and_is_sorted(tmp_path):
    for case, tx in (("eve", 1.23456789), ("anna", -2.0)):
        RegistrationTable.of_folder(tmp_path).add({"case": case, "tx": tx, "init": "none"})
    table = RegistrationTable.of_folder(tmp_path)
    assert table.file.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert [line.split(",")[:2] for line in table.file.read_text().splitlines()[1:]] == [
        ["anna", "-2"],
        ["eve", "1.23457"],
    ]
    table.add({"case": "anna", "tx": 5.0})
    again = RegistrationTable.of_folder(tmp_path)
    assert (again.rows["anna"]["tx"], again.rows["anna"]["init"]) == ("5", "") and again.rows["eve"]["init"] == "none"
    assert [path.name for path in tmp_path.iterdir()] == ["registration.csv"]


@pytest.mark.parametrize(
    "separator, comma, encoding", [(",", ".", "utf-8-sig"), (";", ",", "cp1252"), ("\t", ",", "utf-16")]
)
def test_a_table_that_a_spreadsheet_has_saved_is_the_same_table(tmp_path, separator, comma, encoding):
    RegistrationTable.of_folder(tmp_path).add({"case": "Müller", "tx": -1.25, "warning": "a, b; c", "SRE_mm": 2.5})
    file = tmp_path / "registration.csv"
    expected = RegistrationTable.of_folder(tmp_path).rows
    rows = [[cell.replace(".", comma) for cell in row] for row in csv.reader(file.read_text().splitlines())]
    with open(file, "w", newline="", encoding=encoding) as stream:
        csv.writer(stream, delimiter=separator, lineterminator="\r\n").writerows(rows)
    assert RegistrationTable.of_folder(tmp_path).rows == expected
    assert expected["Müller"]["tx"] == "-1.25" and expected["Müller"]["SRE_mm"] == "2.5"
    file.write_text(file.read_text(encoding=encoding).rstrip())  # an editor's last line has no end
    assert RegistrationTable.of_folder(tmp_path).rows == expected


def test_columns_that_somebody_has_added_stay(tmp_path):
    for case in ("anna", "eve"):
        RegistrationTable.of_folder(tmp_path).add({"case": case, "tx": 1.0})
    file = tmp_path / "registration.csv"
    head, *lines = file.read_text().splitlines()
    file.write_text("\n".join([f"{head},Looked At", *(f"{line},-ok" for line in lines)]) + "\n")
    RegistrationTable.of_folder(tmp_path).add({"case": "bob", "tx": 2.0})
    RegistrationTable.of_folder(tmp_path).add({"case": "eve", "tx": 3.0})
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["case"], row["tx"], row["Looked At"]) for row in rows] == [
        ("anna", "1", "'-ok"),
        ("bob", "2", ""),
        ("eve", "3", "'-ok"),
    ]


@pytest.mark.parametrize("head, lacking", [("patient,date", "case"), ("case,date", "tx")])
def test_a_table_of_something_else_is_named_before_a_row_would_replace_it(tmp_path, head, lacking):
    (tmp_path / "registration.csv").write_text(f"{head}\nanna,1\n")
    with pytest.raises(XModalError, match=f"registration.csv has no column {lacking}"):
        RegistrationTable.of_folder(tmp_path)
