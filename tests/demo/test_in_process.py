"""Pools of threads in the place of nnU-Net's pools of processes."""

import multiprocessing
import os

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from nnunet_xmodal.demo.in_process import loading_in_this_thread, pools_of_threads


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


def test_the_loader_leaves_threads_alone_within_and_only_there():
    from nnunetv2.training.dataloading import data_loader

    before = data_loader.threadpool_limits
    with threadpool_limits(limits=2), loading_in_this_thread():
        with data_loader.threadpool_limits(limits=1, user_api=None):  # as nnU-Net calls it
            assert {pool["num_threads"] for pool in threadpool_info()} == {2}
        assert data_loader.threadpool_limits is not before
    assert data_loader.threadpool_limits is before
