"""The catalogue names every trainer and planner once, and the README's table is what it prints."""

from pathlib import Path

import pytest

from nnunet_xmodal import planners, trainers
from nnunet_xmodal.catalogue.entry import TASKS, shortened
from nnunet_xmodal.catalogue.planners import PLANNERS
from nnunet_xmodal.catalogue.tables import as_markdown, as_text
from nnunet_xmodal.catalogue.trainers import TRAINERS
from nnunet_xmodal.commands.trainers import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("entries, names", [(TRAINERS, trainers.TRAINERS), (PLANNERS, planners.PLANNERS)])
def test_every_name_is_in_one_entry(entries, names):
    assert sorted(name for entry in entries for name in entry.names) == sorted(names)


def test_the_readmes_table_is_printed_by_the_command():
    assert as_markdown(TRAINERS) in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("entry", [*TRAINERS, *PLANNERS], ids=lambda entry: entry.names[0])
def test_pages_exist_and_tasks_are_known(entry):
    assert not entry.page or (ROOT / "documentation" / entry.page).is_file()
    assert set(entry.task.split(", ")) <= set(TASKS)
    assert bool(entry.paper) <= bool(entry.page)


def test_words_and_task_choose(capsys):
    main(["--task", "registration", "attention-reg"])
    shown = capsys.readouterr().out
    assert "nnUNetTrainerAttentionReg " in shown and "RegistrationPlanner" in shown and "CSAD" not in shown

    main(["--planners", "ResEnc"])
    assert "XModalResEncPlannerM" in capsys.readouterr().out


def test_nothing_found_is_a_sentence(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["ultraviolet"])
    assert "ultraviolet" in capsys.readouterr().err


def test_links_are_text_in_a_terminal():
    assert "](" not in as_text(TRAINERS) and max(map(len, as_text(TRAINERS).splitlines())) <= 116


def test_names_that_go_on_from_the_first_are_shortened():
    assert shortened(("nnUNetTrainerFA", "nnUNetTrainerFALiteral", "nnUNetTrainerSA")) == [
        "nnUNetTrainerFA",
        "…Literal",
        "nnUNetTrainerSA",
    ]
