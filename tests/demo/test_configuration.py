"""The demo's configuration: nnU-Net's own but for batch and width."""

import pytest

from nnunet_xmodal.demo.configuration import narrowed

PLANNED = {"2d": {"batch_size": 49, "architecture": {"arch_kwargs": {"features_per_stage": [32, 64, 128, 512, 512]}}}}


@pytest.mark.parametrize(("features", "widths"), [(16, [16, 32, 64, 256, 256]), (32, None), (100, None)])
def test_levels_are_narrowed_alike_and_never_widened(features, widths):
    made = narrowed(PLANNED, "2d", 8, features)
    assert made["inherits_from"] == "2d" and made["batch_size"] == 8
    ours, theirs = (content["architecture"]["arch_kwargs"]["features_per_stage"] for content in (made, PLANNED["2d"]))
    assert ours == (widths or theirs)
    assert theirs == [32, 64, 128, 512, 512]  # as it was


def test_an_inherited_architecture_is_found():
    configurations = {**PLANNED, "2d_small": {"inherits_from": "2d"}}
    made = narrowed(configurations, "2d_small", 2, 8)
    assert made["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 128, 128]
