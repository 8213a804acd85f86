"""Pools of threads in the place of nnU-Net's pools of processes."""

import multiprocessing
import os

import pytest

from nnunet_xmodal.demo.in_process import pools_of_threads


def test_spawned_pools_stay_in_this_process_and_only_within():
    before = multiprocessing.get_context
    with pools_of_threads():
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            assert pool.map(lambda _: os.getpid(), range(3)) == [os.getpid()] * 3
        assert multiprocessing.get_context("spawn") is not before("spawn")
        assert multiprocessing.get_context() is before()
    assert multiprocessing.get_context is before


def test_the_context_is_given_back_after_an_error():
    before = multiprocessing.get_context
    with pytest.raises(KeyError), pools_of_threads():
        raise KeyError
    assert multiprocessing.get_context is before
