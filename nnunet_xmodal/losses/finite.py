"""A training whose loss is no number any more stops, and says so."""

from collections.abc import Mapping
from math import isfinite

from nnunet_xmodal.errors import XModalError

SKIPPED_IN_A_ROW = 20
"""Steps that a gradient scaler may skip: it halves its scale with each, from 65,536 to below 1."""


class FiniteLosses:
    """What the losses of a training have to be, step by step.

    Half precision overflows now and then. A gradient scaler leaves such a step out and lowers its scale, and nothing
    is lost; without one the weights are NaN after it.
    """

    def __init__(self) -> None:
        self._skipped = 0

    def check(self, losses: Mapping[str, float], epoch: int, scaled: bool) -> None:
        """Stop a training whose loss is NaN or infinite.

        Args:
            losses: by name, of one step.
            scaled: whether a gradient scaler skips such steps; then `SKIPPED_IN_A_ROW` of them stop the training.

        Raises:
            XModalError: for NaN and infinity; names the losses and the epoch.
        """
        broken = [name for name, value in losses.items() if not isfinite(value)]
        self._skipped = self._skipped + 1 if broken else 0
        if broken and (not scaled or self._skipped >= SKIPPED_IN_A_ROW):
            raise XModalError(
                f"the loss ({', '.join(broken)}) turned NaN or infinite in epoch {epoch}: go on from the last "
                "checkpoint with --c, or train with a smaller learning rate."
            )
