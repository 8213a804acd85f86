"""Superpixels on disk: made once, the same in any number of processes, never of other data or other settings."""

import json
import os
import pickle
import signal
import subprocess
import sys

import blosc2
import numpy as np
import pytest
from scipy import ndimage

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot import superpixel_cache
from nnunet_xmodal.tasks.few_shot.superpixel_cache import ensure_superpixels, superpixel_folder
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings, felzenszwalb_superpixels, intensity_range

SETTINGS = SuperpixelSettings(min_size=30)
SHAPES = {"a": (1, 3, 40, 48), "b": (1, 2, 36, 40), "c": (1, 4, 32, 32)}


class Labels:
    """Whoever looks at them fails."""

    def __getitem__(self, index):
        raise AssertionError("a label was read")

    __array__ = __getitem__


class OnDisk:
    """As much of nnU-Net's dataset as is asked for."""

    def __init__(self, folder, shapes=SHAPES, seed=0):
        self.source_folder, self.identifiers = str(folder), list(shapes)
        folder.mkdir(exist_ok=True, parents=True)
        for number, (case, shape) in enumerate(shapes.items()):
            # written anew, the file of the same data may have other bytes, and is another one for the cache
            if not (folder / f"{case}.b2nd").is_file():
                self.write(case, volume(shape, seed + number))

    def write(self, case, data):
        blosc2.asarray(data, urlpath=f"{self.source_folder}/{case}.b2nd", mode="w")

    def load_case(self, case):
        return blosc2.open(urlpath=f"{self.source_folder}/{case}.b2nd", mode="r"), Labels(), None, {}


def volume(shape, seed) -> np.ndarray:
    """Tissue in a cylinder with a dark margin of four pixels; its last slice is dark."""
    rng = np.random.default_rng(seed)
    data = ndimage.gaussian_filter(rng.normal(size=shape), (0, 0, 3, 3)) * 3 + 1
    margin = np.ones(shape, bool)
    margin[:, :, 4:-4, 4:-4] = False
    data[margin] = -2
    data[:, -1] = -2
    return data.astype(np.float32)


def expected(dataset, case, settings=SETTINGS):
    data = dataset.load_case(case)[0][:]
    intensities = intensity_range(data)
    return np.stack([felzenszwalb_superpixels(data[:, z], settings, intensities) for z in range(data.shape[1])])


def all_maps(maps):
    return {case: np.stack([maps.slice(case, z) for z in range(len(n))]) for case, n in maps.counts.items()}


def computed(monkeypatch) -> list:
    """Names of the cases that are computed from here on."""
    seen, read = [], superpixel_cache._volume

    def volume_of(dataset, case):
        seen.append(case)
        return read(dataset, case)

    monkeypatch.setattr(superpixel_cache, "_volume", volume_of)
    return seen


def test_maps_are_those_of_the_slices_with_the_intensities_of_the_volume(tmp_path):
    dataset = OnDisk(tmp_path / "Plans_2d")
    maps = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    for case, found in all_maps(maps).items():
        np.testing.assert_array_equal(found, expected(dataset, case))
        assert found.dtype == np.int32
        np.testing.assert_array_equal(maps.counts[case], found.max((1, 2)))
        assert maps.counts[case][0] > 3 and maps.counts[case][-1] == 0
    assert pickle.loads(pickle.dumps(maps)).slice("a", 0).shape == (40, 48)


def test_two_processes_make_the_same_maps_as_one(tmp_path):
    dataset = OnDisk(tmp_path / "Plans_2d")
    one = all_maps(ensure_superpixels(dataset, tmp_path / "one", SETTINGS, 1, progress=False))
    two = all_maps(ensure_superpixels(dataset, tmp_path / "two", SETTINGS, 2, progress=False))
    assert one.keys() == two.keys()
    for case in one:
        np.testing.assert_array_equal(one[case], two[case])


def test_only_what_is_missing_is_computed(tmp_path, monkeypatch):
    dataset = OnDisk(tmp_path / "Plans_2d")
    first = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    seen = computed(monkeypatch)
    again = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    assert seen == [] and all((again.counts[case] == first.counts[case]).all() for case in SHAPES)
    (first.folder / "b.b2nd").unlink()
    ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    assert seen == ["b"]


def test_a_map_of_other_data_or_a_damaged_one_is_made_again(tmp_path, monkeypatch):
    dataset = OnDisk(tmp_path / "Plans_2d")
    maps = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    seen = computed(monkeypatch)
    dataset.write("a", volume(SHAPES["a"], 77))  # of the same shape
    dataset.write("b", volume((1, 5, 30, 30), 78))
    (maps.folder / "c.b2nd").write_bytes(b"cut")
    again = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    assert seen == ["a", "b", "c"]
    for case, found in all_maps(again).items():
        np.testing.assert_array_equal(found, expected(dataset, case))


def test_a_copy_of_the_data_with_other_times_needs_no_new_maps(tmp_path, monkeypatch):
    dataset = OnDisk(tmp_path / "Plans_2d")
    ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    for file in (tmp_path / "Plans_2d").iterdir():
        os.utime(file, (1, 1))
    seen = computed(monkeypatch)
    ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    assert seen == []


def test_other_settings_live_beside_these(tmp_path):
    dataset = OnDisk(tmp_path / "Plans_2d")
    other = SuperpixelSettings(min_size=60)
    first = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    second = ensure_superpixels(dataset, tmp_path / "maps", other, progress=False)
    assert first.folder != second.folder and first.folder.parent == second.folder.parent == tmp_path / "maps"
    np.testing.assert_array_equal(first.slice("a", 0), expected(dataset, "a")[0])
    np.testing.assert_array_equal(second.slice("a", 0), expected(dataset, "a", other)[0])
    assert json.loads((second.folder / "settings.json").read_text())["min_size"] == 60


def test_the_folder_stands_beside_nnunets_own(tmp_path):
    assert superpixel_folder(tmp_path / "Plans_2d") == tmp_path / "Plans_2d_superpixels"


@pytest.mark.parametrize("processes", [1, 2])
def test_a_case_with_nan_is_named(tmp_path, processes):
    dataset = OnDisk(tmp_path / "Plans_2d")
    spoilt = volume(SHAPES["b"], 1)
    spoilt[0, 0, 5, 5] = np.nan
    dataset.write("b", spoilt)
    with pytest.raises(XModalError, match="the preprocessed case b holds NaN or infinite voxels"):
        ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, processes, progress=False)


@pytest.mark.parametrize("windows", [False, True])
def test_files_are_mapped_into_memory_but_not_on_windows_which_replaces_no_mapped_file(
    tmp_path, monkeypatch, on_windows, windows
):
    opened, modes = blosc2.open, []
    if windows:
        on_windows(superpixel_cache)
    dataset = OnDisk(tmp_path / "Plans_2d")
    monkeypatch.setattr(
        superpixel_cache.blosc2, "open", lambda **words: modes.append(words["mmap_mode"]) or opened(**words)
    )
    monkeypatch.setattr(dataset, "load_case", lambda case: (opened(f"{dataset.source_folder}/{case}.b2nd"), None))
    maps = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    np.testing.assert_array_equal(all_maps(maps)["a"], expected(dataset, "a"))
    assert set(modes) == {None if windows else "r"} and len(modes) > 2


KILLED = """
import sys
from pathlib import Path
from tests_of_the_cache import OnDisk, SETTINGS
from nnunet_xmodal.tasks.few_shot import superpixel_cache

def read(dataset, case):
    if case == "b":
        print("at b", flush=True)
        sys.stdin.read()
    return read_before(dataset, case)

if __name__ == "__main__":
    read_before, superpixel_cache._volume = superpixel_cache._volume, read
    folder = Path({folder!r})
    superpixel_cache.ensure_superpixels(OnDisk(folder / "Plans_2d"), folder / "maps", SETTINGS, progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_who_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    (tmp_path / "tests_of_the_cache.py").write_text(open(__file__, encoding="utf-8").read())
    (tmp_path / "killed.py").write_text(KILLED.format(folder=str(tmp_path)))
    with subprocess.Popen(
        [sys.executable, tmp_path / "killed.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"at b\n"
        process.send_signal(signal.SIGKILL)
    seen = computed(monkeypatch)
    dataset = OnDisk(tmp_path / "Plans_2d")
    maps = ensure_superpixels(dataset, tmp_path / "maps", SETTINGS, progress=False)
    assert seen == ["b", "c"]
    np.testing.assert_array_equal(all_maps(maps)["a"], expected(dataset, "a"))
