"""Scores for a model's card, of a table that may have been through a spreadsheet."""

import pytest

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.sharing.scores import scores_of_report

HEAD = "model;label;metric;n;mean;sd"


def test_decimal_commas_are_read(tmp_path):
    (tmp_path / "summary.csv").write_text(f"{HEAD}\nnnUNetTrainer;lesion;Dice;20;0,853;0,04\n")
    (score,) = scores_of_report(tmp_path, "", "nnUNetTrainer")
    assert (score["n"], score["mean"], score["sd"]) == (20, 0.853, 0.04)


def test_what_is_undefined_stays_so_and_what_is_no_number_is_said(tmp_path):
    (tmp_path / "summary.csv").write_text(f"{HEAD}\nnnUNetTrainer;lesion;HD95;0;;\n")
    (score,) = scores_of_report(tmp_path, "", "nnUNetTrainer")
    assert (score["n"], score["mean"], score["sd"]) == (0, None, None)
    (tmp_path / "summary.csv").write_text(f"{HEAD}\nnnUNetTrainer;lesion;Dice;x;0.8;\n")
    with pytest.raises(XModalError, match="x is no number, where a score or a count belongs"):
        scores_of_report(tmp_path, "", "nnUNetTrainer")


def test_scores_of_another_model_are_not_this_ones(tmp_path):
    (tmp_path / "summary.csv").write_text(f"{HEAD}\nnnUNetTrainerCSAD;lesion;Dice;20;0.872;\n")
    with pytest.raises(XModalError, match="has no model nnUNetTrainer: name one of nnUNetTrainerCSAD with --scored_as"):
        scores_of_report(tmp_path, "", "nnUNetTrainer")
    (score,) = scores_of_report(tmp_path, "", "nnUNetTrainerCSAD_10epochs")
    assert score["mean"] == 0.872


def test_names_that_a_spreadsheet_would_compute_are_found(tmp_path):
    (tmp_path / "summary.csv").write_text(f"{HEAD}\n'+ours;'-core;Dice;20;0.872;\n")
    (score,) = scores_of_report(tmp_path, "+ours", "nnUNetTrainer")
    assert score["label"] == "-core"
