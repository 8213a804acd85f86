"""nnU-Net's environment variables."""

import os

from nnunet_xmodal.errors import XModalError


def require_variables(*names: str) -> None:
    """
    Raises:
        XModalError: for the first variable that is not set, or names a folder that cannot be made.
    """
    for name in names:
        if not os.environ.get(name):
            raise XModalError(
                f"the environment variable {name} is not set: point it at a folder, for example "
                f"`export {name}=/path/to/{name}`."
            )
