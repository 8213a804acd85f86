"""Models that nnU-Net's own `nnUNetv2_predict` cannot serve say so before it reads an image."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nnunet_xmodal.errors import XModalError

_BUILT_HERE = ContextVar("built_here", default=False)


@contextmanager
def built_here() -> Iterator[None]:
    """Within, networks of such models may be built: a trainer's own `initialize`, our predictors."""
    token = _BUILT_HERE.set(True)
    try:
        yield
    finally:
        _BUILT_HERE.reset(token)


def is_built_here() -> bool:
    """Whether we are within `built_here`."""
    return _BUILT_HERE.get()


def check_built_here(trainer_name: str, predicts: str) -> None:
    """For `build_network_architecture`, the first of our code that nnU-Net's prediction calls.

    Args:
        predicts: what the model predicts, for the sentence: "images".

    Raises:
        XModalError: outside of `built_here`.
    """
    if not is_built_here():
        raise XModalError(
            f"models of {trainer_name} predict {predicts}, which nnUNetv2_predict cannot write: use "
            "nnUNetXModal_predict with the same flags."
        )
