"""`nnUNetXModal_env`: the line that lets stock nnU-Net find our trainers."""

import argparse
import os

from nnunet_xmodal.discovery import VARIABLE, extended_value

_LINE = {
    "sh": "export {variable}='{value}'",
    "powershell": "$env:{variable} = '{value}'",
    "cmd": 'set "{variable}={value}"',
}
_QUOTE = {"sh": ("'", "'\\''"), "powershell": ("'", "''"), "cmd": ('"', '"')}


def line(shell: str, existing: str | None) -> str:
    """Return the command that sets `nnUNet_extTrainer` in a shell, with what is in it already."""
    value = extended_value(existing).replace(*_QUOTE[shell])
    return _LINE[shell].format(variable=VARIABLE, value=value)


def main(arguments: list[str] | None = None) -> None:
    """Run `nnUNetXModal_env`."""
    parser = argparse.ArgumentParser(
        prog="nnUNetXModal_env",
        description="Prints the line that makes nnUNetv2_train and nnUNetv2_predict find the trainers of this package.",
        epilog='sh: eval "$(nnUNetXModal_env)"   PowerShell: nnUNetXModal_env --shell powershell | Invoke-Expression   '
        "cmd: run the printed line",
    )
    default = "powershell" if os.name == "nt" else "sh"
    parser.add_argument(
        "--shell", choices=sorted(_LINE), default=default, help=f"syntax of the line (default: {default})"
    )
    shell = parser.parse_args(arguments).shell
    print(line(shell, os.environ.get(VARIABLE)))
