"""What a command imports: nothing large for --help, and afterwards nothing that it does not use."""

import subprocess
import sys
from importlib.metadata import distribution

import pytest
from fast_ones import one_fast_in

COMMANDS = sorted(
    (entry.name, entry.value.split(":")[0])
    for entry in distribution("nnunet-xmodal").entry_points
    if entry.group == "console_scripts"
)


def imported(statements: str, names: tuple[str, ...], folder) -> list[str]:
    """Return which of the names a fresh process has imported after the statements."""
    code = f"{statements}\nimport sys\nprint(*[name for name in {names} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_help_imports_nothing_large(tmp_path):
    """Of all commands in one process: numpy alone would take longer than what `--help` may."""
    large = ("numpy", "torch", "nnunetv2", "SimpleITK", "nibabel", "pandas", "scipy", "matplotlib")
    lines = ["import contextlib"]
    for _, module in COMMANDS:
        lines += [
            f"from {module} import main",
            "with contextlib.suppress(SystemExit):",
            "    main(['--help'])",
        ]
    assert len(COMMANDS) >= 8
    assert imported("\n".join(lines), large, tmp_path) == []


@pytest.mark.parametrize(
    "module, unused",
    one_fast_in(
        4,
        [
            ("demo.walk", ("torch", "nnunetv2", "pandas")),
            ("preparation.run", ("torch",)),
            ("comparison.run", ("torch", "nnunetv2.training", "seaborn", "sklearn", "matplotlib.pyplot")),
            ("crossval.run", ("sklearn", "pandas", "nnunetv2.training.nnUNetTrainer.nnUNetTrainer")),
        ],
    ),
)
def test_a_command_imports_what_it_uses(module, unused, tmp_path):
    """Before its first check: a mistake is told without waiting for torch where torch has no part in it."""
    assert imported(f"import nnunet_xmodal.{module}", unused, tmp_path) == []
