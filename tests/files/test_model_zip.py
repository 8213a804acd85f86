"""Zips of models: what is unpacked, what is refused, and that a damaged file is told."""

import json
import stat
import zipfile

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_zip import CARD, read_card, sha256_of, unpack_model

MODEL = "Dataset001_A/nnUNetTrainer__nnUNetPlans__2d"
CHECKPOINT = "checkpoint_final.pth"


@pytest.fixture
def unpacked(tmp_path):
    """`({name: content})` → the files that are unpacked of a zip of these, by their names."""

    def unpack(content: dict, checkpoint=CHECKPOINT, change=None):
        file, place = tmp_path / "model.zip", tmp_path / "place"
        with zipfile.ZipFile(file, "w") as opened:
            for name, text in content.items():
                opened.writestr(name, text)
        if change:
            change(file)
        place.mkdir()
        unpack_model(file, place, checkpoint)
        return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}

    return unpack


def test_what_a_prediction_reads_is_unpacked_and_nothing_else(unpacked):
    read = [
        f"{MODEL}/{name}" for name in ("plans.json", "dataset.json", f"fold_0/{CHECKPOINT}", f"fold_all/{CHECKPOINT}")
    ]
    left = [
        f"{MODEL}/fold_0/progress.png",
        f"{MODEL}/fold_0/checkpoint_best.pth",
        f"{MODEL}/postprocessing.pkl",
        "sitecustomize.py",
        f"{MODEL}/fold_0/run.sh",
    ]
    assert sorted(unpacked(dict.fromkeys([*read, *left], "x"))) == sorted(read)


@pytest.mark.parametrize(
    "name", ["../plans.json", "/tmp/plans.json", "a/../../plans.json", "..\\plans.json", "C:/plans.json"]
)
def test_names_lead_nowhere(unpacked, tmp_path, name):
    with pytest.raises(XModalError, match="leads out of its folder"):
        unpacked({f"{MODEL}/plans.json": "{}", name: "{}"})
    assert not [path for path in (tmp_path / "place").rglob("*") if path.is_file()]
    assert not (tmp_path / "plans.json").exists()


def test_links_and_names_that_come_twice(unpacked, tmp_path):
    link = zipfile.ZipInfo(f"{MODEL}/plans.json")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with pytest.raises(XModalError, match="leads out of its folder"):
        unpacked({link: "/etc/passwd"})
    (tmp_path / "place").rmdir()
    with pytest.raises(XModalError, match="twice"):
        unpacked(
            {f"{MODEL}/plans.json": "{}", f"{MODEL}/PLANS.json".replace("PLANS", "plans").replace("2d", "2D"): "x"}
        )


def test_what_is_no_whole_zip(unpacked, tmp_path):
    for change in (
        lambda file: file.write_bytes(file.read_bytes()[:-30]),
        lambda file: file.write_bytes(b"no zip"),
        lambda file: file.write_bytes(file.read_bytes().replace(b"weights", b"WEIGHTS")),  # another CRC
    ):
        with pytest.raises(XModalError, match="is no whole zip file"):
            unpacked({f"{MODEL}/fold_0/{CHECKPOINT}": "weights"}, change=change)
        for path in (*sorted((tmp_path / "place").rglob("*"), reverse=True), tmp_path / "place"):
            path.rmdir() if path.is_dir() else path.unlink()


def test_a_zip_larger_than_the_disk(unpacked, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 3}))
    with pytest.raises(XModalError, match="TMPDIR"):
        unpacked({f"{MODEL}/plans.json": "{  }"})


def test_files_are_those_that_the_card_was_written_for(unpacked, tmp_path):
    (tmp_path / "weights").write_text("weights")
    name = f"fold_0/{CHECKPOINT}"
    sums = {name: sha256_of(tmp_path / "weights"), "fold_1/checkpoint_final.pth": "0", "/etc/fold_0/x.pth": "0"}
    content = {f"{MODEL}/{CARD}": json.dumps({"files": sums}), f"{MODEL}/{name}": "weights"}
    assert len(unpacked(content)) == 2
    for path in (*sorted((tmp_path / "place").rglob("*"), reverse=True), tmp_path / "place"):
        path.rmdir() if path.is_dir() else path.unlink()
    with pytest.raises(XModalError, match=f"{CHECKPOINT} .* is not the file that {CARD} was written for"):
        unpacked({**content, f"{MODEL}/{name}": "others"})


@pytest.mark.parametrize("text", ["[]", "{", '{"files": 3}', "[" * 100_000])
def test_a_card_that_is_none(tmp_path, text):
    (tmp_path / CARD).write_text(text)
    with pytest.raises(XModalError, match="model card"):
        read_card(tmp_path)
