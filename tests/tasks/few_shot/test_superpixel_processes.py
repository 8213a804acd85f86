"""Processes that make superpixels: the order of what they give, how soon they begin, and that they end."""

import os
import subprocess
import sys

import numpy as np
import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.tasks.few_shot.superpixel_processes import computed
from nnunet_xmodal.tasks.few_shot.superpixels import SuperpixelSettings, felzenszwalb_superpixels, intensity_range

SETTINGS = SuperpixelSettings(min_size=20)
SLICES = (1, 5, 0, 12, 1, 1, 9)


def volumes(seed=0):
    rng = np.random.default_rng(seed)
    for number, slices in enumerate(SLICES):
        yield f"case{number}", rng.uniform(size=(2, slices + 1, 20, 16 + number))


def test_cases_come_in_their_order_each_with_all_its_slices():
    for processes in (1, 2):
        found = list(computed(volumes(), SETTINGS, processes))
        assert [case for case, _ in found] == [case for case, _ in volumes()]
        for (_, maps), (_, volume) in zip(found, volumes()):
            expected = [
                felzenszwalb_superpixels(volume[:, z], SETTINGS, intensity_range(volume))
                for z in range(volume.shape[1])
            ]
            np.testing.assert_array_equal(maps, expected)


@pytest.mark.parametrize("processes", [1, 2])
def test_volumes_are_read_when_they_are_needed(processes):
    """A case of four slices and the next ones wait for two processes; the last is not read before the first is out."""
    read = []

    def slowly():
        for number in range(40):
            read.append(number)
            yield str(number), np.random.default_rng(number).uniform(size=(1, 4, 16, 16))

    cases = computed(slowly(), SETTINGS, processes)
    next(cases)
    assert len(read) < 8
    cases.close()


def test_a_killed_worker_is_a_sentence():
    def kills():
        yield "a", Kills()

    with pytest.raises(XModalError, match="a process was killed, probably for want of memory"):
        list(computed(kills(), SETTINGS, 2))


class Kills(np.ndarray):
    """An image whose arrival ends the process."""

    def __new__(cls):
        return np.zeros((1, 1, 8, 8)).view(cls)

    def __reduce__(self):
        return os._exit, (1,)


def test_workers_wait_for_no_large_package(tmp_path):
    large = ("torch", "nnunetv2", "blosc2", "SimpleITK", "nibabel", "matplotlib", "pandas")
    code = f"import sys, nnunet_xmodal.tasks.few_shot.superpixel_processes; assert not {{*{large}}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=tmp_path)
