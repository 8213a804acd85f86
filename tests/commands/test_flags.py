"""Whoever knows nnU-Net's flags knows ours."""

import argparse

import pytest
from nnunetv2.experiment_planning.plan_and_preprocess_entrypoints import plan_and_preprocess_entry
from nnunetv2.inference.predict_from_raw_data import predict_entry_point

from nnunet_xmodal.commands import plan_and_preprocess, predict

PLANNING = ("--streams", "--iso_compute", "--grid", "--base_width", "--allow_missing")
FEW_SHOT = ("--size", "--unlabelled")
RECONSTRUCTION = ("--patch", "--field_unit", "--B0", "--TE", "--b0_direction")
MASKED = ("--mask", *RECONSTRUCTION[1:], "--consistency", "--reference_region")
SUPPORTED = ("--support", "--match", "--extents", "--largest_component")
LACKING = ("--allow_missing", "--impute")
SURE = ("--uncertainty", "--temperature")
ORGAN = ("--roi", "--roi_label", "--margin")
SCANS = ("--scans", "--channels", "--grid_of", "--register", "--transform", "--landmarks", "--dicom_seg")
PLACED = ("-m", "--card", "--max_memory")
REGISTRATION = (
    "--moving",
    "--init",
    "--labels",
    "--moving_labels",
    "--reference",
    "--stage2",
    "--refine",
    "--grad_cam",
)


class Captured(Exception):
    pass


def stock_parser(entry_point, monkeypatch) -> argparse.ArgumentParser:
    def capture(self, *_):
        raise Captured(self)

    with monkeypatch.context() as patched:
        patched.setattr(argparse.ArgumentParser, "parse_args", capture)
        with pytest.raises(Captured) as caught:
            entry_point()
    return caught.value.args[0]


def flags(parser) -> dict:
    return {flag: action for action in parser._actions for flag in action.option_strings if "-h" not in flag[:3]}


@pytest.mark.parametrize(
    "stock, ours, added",
    [
        (plan_and_preprocess_entry, plan_and_preprocess.parser, {*PLANNING, *FEW_SHOT, *RECONSTRUCTION}),
        (
            predict_entry_point,
            predict.parser,
            {
                "--trust",
                "--attention_maps",
                *SURE,
                "--reference_intensities",
                *MASKED,
                *ORGAN,
                *REGISTRATION,
                *SUPPORTED,
                *LACKING,
                *SCANS,
                *PLACED,
            },
        ),
    ],
)
def test_our_commands_have_all_flags_of_nnunet_with_its_defaults(stock, ours, added, monkeypatch):
    theirs, mine = flags(stock_parser(stock, monkeypatch)), flags(ours())
    assert set(mine) - set(theirs) == added
    assert set(theirs) <= set(mine)
    for flag, action in theirs.items():
        default = list(action.default) if isinstance(action.default, tuple) else action.default
        assert mine[flag].default == default, flag
        assert mine[flag].nargs == action.nargs, flag
        assert mine[flag].dest == action.dest, flag


def test_number_of_workers_comes_from_nnunets_variables(monkeypatch):
    monkeypatch.setenv("nnUNet_npp", "7")
    monkeypatch.setenv("nnUNet_nps", "not a number")
    args = predict.parser().parse_args(["-i", "a", "-o", "b", "-d", "1", "-c", "2d", "-f", "0", "all"])
    assert (args.npp, args.nps, args.f) == (7, 3, [0, "all"])
