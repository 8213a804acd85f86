import os
import subprocess

import pytest

from nnunet_xmodal.commands import env
from nnunet_xmodal.commands.env import line, main
from nnunet_xmodal.discovery import PLUGIN_FOLDER, extended_value


@pytest.mark.parametrize(
    "shell, expected",
    [
        ("sh", "export nnUNet_extTrainer='{}'"),
        ("powershell", "$env:nnUNet_extTrainer = '{}'"),
        ("cmd", 'set "nnUNet_extTrainer={}"'),
    ],
)
def test_line_for_each_shell(shell, expected):
    assert line(shell, None) == expected.format(PLUGIN_FOLDER)
    assert line(shell, "/mine") == expected.format(f"/mine{os.pathsep}{PLUGIN_FOLDER}")


def test_quotes_do_not_end_the_line_early():
    assert line("sh", "/it's") == f"export nnUNet_extTrainer='/it'\\''s{os.pathsep}{PLUGIN_FOLDER}'"


def test_our_folder_is_added_once():
    assert extended_value(extended_value("/mine")) == extended_value("/mine")


def test_on_windows_the_line_is_for_powershell_unless_told(capsys, on_windows, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/it's mine")
    on_windows(env)
    main([])
    mine = extended_value("/it's mine").replace("'", "''")
    assert capsys.readouterr().out == f"$env:nnUNet_extTrainer = '{mine}'\n"
    main(["--shell", "sh"])
    assert capsys.readouterr().out.startswith("export ")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "(default: powershell)" in capsys.readouterr().out


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")
def test_a_shell_that_evaluates_the_line_has_the_variable(capsys, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", "/mine")
    main(["--shell", "sh"])
    script = capsys.readouterr().out + 'printf %s "$nnUNet_extTrainer"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"/mine:{PLUGIN_FOLDER}"
