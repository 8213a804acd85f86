"""The words of nnUNetXModal_prepare."""

import subprocess
import sys
from dataclasses import fields

from nnunet_xmodal.commands.prepare import parser
from nnunet_xmodal.preparation.request import PreparationWords


def test_every_flag_arrives(monkeypatch):
    monkeypatch.setenv("nnUNet_def_n_proc", "3")
    args = vars(parser().parse_args(["-i", "scans", "-o", "Dataset510_A"]))
    assert set(args) == {field.name for field in fields(PreparationWords)}
    words = PreparationWords(**args)
    assert words.processes == 3
    assert words == PreparationWords(words.input, "Dataset510_A", processes=3)


def test_help_names_the_recipes_and_imports_no_image_library(tmp_path):
    script = (
        "import sys\nfrom nnunet_xmodal.commands.prepare import parser\ntext = parser().format_help()\n"
        "assert 'brats, brats2023, chaos, muregpro' in ' '.join(text.split()), text\n"
        "assert 'SimpleITK' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
