"""Note who builds a network: nnU-Net calls `build_network_architecture` without saying so.

Models that nnU-Net's own `nnUNetv2_predict` cannot serve refuse to be built by it, before it reads an image; pretrained
weights are loaded for trainings alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

from nnunet_xmodal.errors import XModalError

Builder = Literal["trainer", "predictor"]

_BUILDER: ContextVar[Builder | None] = ContextVar("builder", default=None)


@contextmanager
def building(by: Builder) -> Iterator[None]:
    """Let networks be built, within the block, for this package's own trainer or predictor."""
    token = _BUILDER.set(by)
    try:
        yield
    finally:
        _BUILDER.reset(token)


def builder() -> Builder | None:
    """Return who builds, None for nnU-Net's own commands."""
    return _BUILDER.get()


def refuse_stock_prediction(trainer_name: str, predicts: str) -> None:
    """Refuse to build a network outside of `building`; for `build_network_architecture`.

    Args:
        predicts: what the model predicts, for the sentence: "images".

    Raises:
        XModalError: when nnU-Net's own prediction builds it.
    """
    if builder() is None:
        raise XModalError(
            f"models of {trainer_name} predict {predicts}, which nnUNetv2_predict cannot write: use "
            "nnUNetXModal_predict with the same flags."
        )
