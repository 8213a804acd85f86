"""Tables as people and spreadsheets write them."""

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.tables import decimal, other_columns, read_columns, read_rows

NEEDED = ("case", "file")
TABLE = [("p1", "a b.nii"), ("p2", "ä,c.nii")]


def told(file):
    return [(row["case"], row["file"]) for _, row in read_columns(file, NEEDED)]


@pytest.mark.parametrize(
    "text",
    [
        'case,file\np1,a b.nii\np2,"ä,c.nii"\n',
        "case;file\np1;a b.nii\np2;ä,c.nii\n",
        "case\tfile\np1\ta b.nii\np2\tä,c.nii\n",
        "case|file\np1|a b.nii\np2|ä,c.nii\n",
        'case, file\np1, a b.nii\n p2 , "ä,c.nii"\n',
        "Case ; FILE ;\n p1 ; a b.nii ;\n;;\n\np2;ä,c.nii;\n",
        "sep=;\ncase;file\np1;a b.nii\np2;ä,c.nii\n",
        "\n\ncase;file;label\r\np1;a b.nii\r\np2;ä,c.nii\r\n",
        'case;"file"\rp1;a b.nii\rp2;"ä,c.nii"\r',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_every_export_is_read(tmp_path, text, encoding):
    file = tmp_path / "table.csv"
    file.write_bytes(text.encode(encoding))
    assert told(file) == TABLE


def test_lines_are_numbered_as_an_editor_does(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("case;file\n\np1;a\n;;\np2;b\n")
    assert [number for number, _ in read_columns(file, NEEDED)] == [3, 5]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("", "no column case: its first line has to name case, file, separated by"),
        ("case:file\np1:a\n", "no column case"),
        ("case,name\np1,a\n", "no column file"),
        ("case,file,file\np1,a,b\n", "column file twice"),
        ("case,file\np1,a,b.nii\n", "line 2 .* has 3 cells and the first line 2"),
        ("p1,a.nii\n", "no column case"),
    ],
)
def test_other_tables_are_named(tmp_path, text, sentence):
    file = tmp_path / "table.csv"
    file.write_text(text)
    with pytest.raises(XModalError, match=sentence):
        read_columns(file, NEEDED)


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(XModalError, match="cannot be read"):
        read_rows(tmp_path, bool)


def test_decimals():
    assert decimal("1,5") == decimal("1.5") == 1.5
    with pytest.raises(ValueError):
        decimal("1.000,5")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_columns_beside_ours_are_named_as_they_are_headed(tmp_path, separator):
    file = tmp_path / "table.csv"
    assert other_columns(file, NEEDED) == []
    file.write_text(separator.join(["File", "Looked at", "case", "", "WHO"]) + "\n")
    assert other_columns(file, ("Case", "file")) == ["Looked at", "WHO"]
