"""Pages hold all that they show, on the grid of the patient, and nothing that could run."""

import base64
import gzip
import html
import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIOWithReorient

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.images import read_image
from nnunet_xmodal.viewing import niivue, page, run
from nnunet_xmodal.viewing.label_colours import label_colours
from nnunet_xmodal.viewing.nifti_bytes import nifti_bytes
from nnunet_xmodal.viewing.panels import Colours, Layer, Panel
from nnunet_xmodal.viewing.request import ViewRequest
from nnunet_xmodal.viewing.run import view


@pytest.fixture(autouse=True)
def no_widget(monkeypatch):
    """The viewer's own code is tried in test_in_chromium.py."""
    for module in (run, page):
        monkeypatch.setattr(module, "widget", lambda: "export default {}")


def ask(folders, *cases, **more):
    root = folders.root
    return view(ViewRequest(cases, root / "imagesTs", root / "pages", browser=False, **more))


def content_of(file):
    text = file.read_text(encoding="utf-8")
    shown = json.loads(re.search(r'id="panels">(.*?)</script>', text, re.DOTALL)[1])
    volumes = {
        key: nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data)))
        for key, data in re.findall(r'id="(volume\d+)">(.*?)</script>', text)
    }
    return shown, volumes


def titles_of(file):
    text = file.read_text(encoding="utf-8")
    return [html.unescape(title).strip() for title in re.findall(r"<figcaption>(.*?)<output>", text)]


def test_everything_of_a_case_is_in_its_page_once(folders):
    labels = [f"reference={folders.root / 'labelsTs'}", str(folders.root / "predicted")]
    pages = ask(folders, "anna", "bert", labels=labels, probabilities=True, maps=[folders.root / "maps"])
    assert [page.name for page in pages] == ["anna.html", "bert.html"]
    shown, volumes = content_of(pages[0])
    assert not any(panel["flat"] for panel in shown["panels"])
    assert titles_of(pages[0]) == [
        "T2W",
        "ADC",
        "reference",
        "predicted",
        "predicted: probability of organ",
        "predicted: probability of lesion",
        "stream0 level2",
    ]
    assert len(volumes) == 7  # the ground of five panels is one of them
    reference = shown["panels"][2]["layers"]
    assert reference[0]["data"] == shown["panels"][0]["layers"][0]["data"]
    np.testing.assert_array_equal(np.asarray(volumes[reference[1]["data"]].dataobj).T, folders.label_map)
    lesion = volumes[shown["panels"][5]["layers"][1]["data"]]
    predicted = np.asarray(volumes[shown["panels"][3]["layers"][1]["data"]].dataobj).T
    np.testing.assert_array_equal(np.asarray(lesion.dataobj).T, predicted == 2)
    assert reference[1]["colours"]["names"] == ["", "organ", "lesion", "ignore"]
    assert reference[1]["colours"]["rgba"][3::4] == [0, 255, 255, 255]


def test_volumes_lie_where_their_files_lie(folders):
    file = folders.root / "imagesTs" / "anna_0001.nii.gz"
    (volume,), geometry = read_image(file, folders.dataset_json, is_label=False)
    content = gzip.decompress(nifti_bytes(volume, geometry))
    made, written = nibabel.Nifti1Image.from_bytes(content), nibabel.load(file)
    np.testing.assert_allclose(made.affine, written.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(made.dataobj), np.asarray(written.dataobj))


def test_one_slice_is_flat(folders):
    for channel in range(2):
        folders.add("imagesTs", f"flat_{channel:04d}", np.arange(12, dtype=np.uint8).reshape(3, 4))
    shown, volumes = content_of(ask(folders, "flat")[0])
    assert [panel["flat"] for panel in shown["panels"]] == [True, True] and volumes["volume0"].shape == (4, 3, 1)
    assert volumes["volume0"].header.get_zooms() == (1.0, 1.5, 1.0)


@pytest.mark.parametrize("dtype, kept", [(bool, "u1"), (np.int64, "i2"), (np.float64, "f4"), (np.uint16, "u2")])
def test_values_are_of_types_that_the_viewer_has(dtype, kept):
    volume = np.arange(8).reshape(2, 2, 2).astype(dtype)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(volume, {"spacing": (1.0, 1.0, 1.0)})))
    assert image.get_data_dtype() == np.dtype(kept)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume)


def test_regions_are_called_by_the_smallest():
    labels = {"background": 0, "tumour": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    assert label_colours({"labels": labels}).names == ["", "tumour", "core", "enhancing"]


def test_values_of_one_region_have_its_colour():
    rgba = label_colours({"labels": {"background": 0, "whole": [1, 2, 3], "core": [3]}}).rgba
    assert rgba[4:8] == rgba[8:12] != rgba[12:16]


def test_neighbouring_labels_have_colours_far_apart():
    labels = {"background": 0} | {f"organ {value}": value for value in range(1, 20)}
    rgba = np.array(label_colours({"labels": labels}).rgba).reshape(-1, 4)[1:, :3]
    assert np.abs(np.diff(rgba.astype(int), axis=0)).max(1).min() > 60


def test_hostile_names_are_text():
    layer = Layer(
        b"", (0.0, 1.0), colours=Colours(["", "</script><script>alert(1)</script>"], [0, 0, 0, 0, 9, 9, 9, 255])
    )
    text = page.render("</title><script>alert(2)</script>", [Panel('"><script>alert(3)</script>', [layer])])
    assert not re.search(r"<script>\s*alert", text)
    policy = html.unescape(text.partition('Policy" content="')[2].partition('"')[0])
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert re.search(r"script-src 'sha256-[\w+/=]+' blob:;", policy)


@pytest.mark.parametrize(
    "more, words",
    [
        ({"cases": ["carl"]}, r"carl_0000\.nii\.gz does not exist"),
        ({"labels": ["maps"]}, r"anna\.nii\.gz does not exist: leave --labels maps out, or the case anna"),
        ({"labels": ["labelsTs"], "probabilities": True}, r"no folder of --labels has anna\.npz"),
        ({"maps": [Path("labelsTs")]}, r"no folder of --maps has files anna_"),
        ({"maps": [Path("nowhere")]}, r"--maps nowhere is no folder"),
        ({"dataset_json": Path("nowhere.json")}, r"nowhere\.json is no file: name the dataset with -d"),
        ({"cases": ["a/b"]}, r"the case a/b is a path"),
        ({"cases": []}, r"there is no case to look at"),
    ],
)
def test_what_is_not_there_is_said_before_anything_is_written(folders, monkeypatch, more, words):
    monkeypatch.chdir(folders.root)
    with pytest.raises(XModalError, match=words):
        ask(folders, *more.pop("cases", ["anna"]), **more)
    assert not (folders.root / "pages").exists()


def test_more_panels_than_a_browser_draws_are_refused(folders):
    for number in range(17):
        folders.add("maps", f"anna_{number}", folders.label_map.astype(np.float32))
    with pytest.raises(XModalError, match="anna has 20 panels, and a browser draws 16: give fewer"):
        ask(folders, "anna", maps=[folders.root / "maps"])
    assert not list((folders.root / "pages").iterdir())


def test_maps_of_a_case_whose_name_begins_as_that_of_another_are_its_own(folders):
    folders.add("imagesTs", "anna_2_0000", folders.label_map.astype(np.int16))
    folders.add("maps", "anna_2_entropy", folders.label_map.astype(np.float32))
    first, second = ask(folders, "anna", "anna_2", maps=[folders.root / "maps"])
    assert titles_of(first)[2:] == ["stream0 level2"] and titles_of(second)[1:] == ["entropy"]


def test_folders_of_one_name_are_told_apart_or_refused(folders):
    for trainer in ("a", "b"):
        for name in ("maps", "predicted"):
            shutil.copytree(folders.root / name, folders.root / trainer / name)
    both = [folders.root / trainer / "maps" for trainer in ("a", "b")]
    (page,) = ask(folders, "anna", maps=both)
    assert titles_of(page)[2:] == ["a/maps: stream0 level2", "b/maps: stream0 level2"]
    labels = [str(folders.root / trainer / "predicted") for trainer in ("a", "b")]
    with pytest.raises(XModalError, match="two folders of --labels are called predicted: give one of them as NAME="):
        ask(folders, "anna", labels=labels)


def test_numbers_that_are_none_are_left_out_of_the_window(folders):
    image = np.full((6, 20, 24), np.nan, np.float32)
    image[2:4], image[0] = 7.0, np.inf
    folders.add("imagesTs", "anna_0000", image)
    shown, _ = content_of(ask(folders, "anna")[0])
    assert shown["panels"][0]["layers"][0]["window"] == [7.0, 14.0]


def test_sides_beyond_what_is_drawn_are_shown_coarser():
    picture = np.arange(3 * 5000).reshape(3, 5000).astype(np.int32)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(picture, {"spacing": (1.0, 0.5)})))
    assert image.shape == (1667, 3, 1) and image.header.get_zooms() == (1.5, 1.0, 1.0)
    np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, 0], picture[0, ::3])


def test_what_no_16_bits_hold_is_no_integer_of_16_bits():
    volume = np.array([[[-(2**31), 5]]], np.int32)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti_bytes(volume, {"spacing": (1.0, 1.0, 1.0)})))
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, volume)


def test_without_the_viewer_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(niivue, "find_spec", lambda name: None)
    with pytest.raises(XModalError, match=r'pip install "nnunet-xmodal\[viewer\]"'):
        niivue.widget()


def test_probabilities_of_another_prediction_are_refused(folders):
    file = folders.root / "predicted" / "anna.npz"
    np.savez_compressed(file, probabilities=np.stack([folders.label_map == value for value in range(3)]))
    with pytest.raises(XModalError, match=r"anna\.npz is of another prediction than anna\.nii\.gz"):
        ask(folders, "anna", labels=[str(folders.root / "predicted")], probabilities=True)


def test_probabilities_of_another_grid_are_refused(folders):
    folders.add("predicted", "anna", folders.label_map[1:])
    with pytest.raises(XModalError, match="do not fit dataset.json or the"):
        ask(folders, "anna", labels=[str(folders.root / "predicted")], probabilities=True)


def test_a_constant_image_has_a_window(folders):
    folders.add("imagesTs", "anna_0000", np.full((6, 20, 24), 7, np.int16))
    shown, _ = content_of(ask(folders, "anna")[0])
    assert shown["panels"][0]["layers"][0]["window"] == [7.0, 14.0]


def test_a_label_that_nobody_names_is_refused(folders):
    folders.add("labelsTs", "anna", np.full((6, 20, 24), 9, np.uint8))
    with pytest.raises(XModalError, match="holds the label 9"):
        ask(folders, "anna", labels=[str(folders.root / "labelsTs")])


def test_a_page_asks_for_no_other_file(folders):
    text = ask(folders, "anna")[0].read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=", text) and str(folders.root) not in text


def test_probabilities_of_a_reader_that_turns_lie_on_the_label_map(folders):
    """nnU-Net leaves them as it has read the image, to the right, front and top."""
    content = {**folders.dataset_json, "overwrite_image_reader_writer": "NibabelIOWithReorient"}
    (folders.root / "dataset.json").write_text(json.dumps(content))
    file = folders.root / "predicted" / "anna.nii.gz"
    read, _ = NibabelIOWithReorient().read_seg(str(file))
    probabilities = np.stack([read[0] == value for value in range(3)]).astype(np.float16)
    np.savez_compressed(file.with_name("anna.npz"), probabilities=probabilities)
    shown, volumes = content_of(ask(folders, "anna", labels=[str(file.parent)], probabilities=True)[0])
    label_map, _, lesion = (volumes[panel["layers"][1]["data"]] for panel in shown["panels"][2:])
    np.testing.assert_array_equal(np.asarray(lesion.dataobj), np.asarray(label_map.dataobj) == 2)


def test_a_page_of_somebody_else_is_not_replaced_and_our_own_is(folders):
    (page,) = ask(folders, "anna")
    ask(folders, "anna")
    page.write_text("<!DOCTYPE html><p>my notes on anna</p>")
    with pytest.raises(XModalError, match="anna.html is no page of this command, and one would replace it"):
        ask(folders, "bert", "anna")
    assert "my notes" in page.read_text() and not (page.parent / "bert.html").exists()
