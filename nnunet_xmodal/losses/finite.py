"""A training whose loss is no number any more stops, and says so."""

from collections.abc import Mapping
from math import isfinite

from nnunet_xmodal.errors import XModalError


def check_finite(losses: Mapping[str, float], epoch: int) -> None:
    """Stop a training whose loss is NaN or infinite.

    Args:
        losses: by name, of one step.

    Raises:
        XModalError: for NaN and infinity; names the losses and the epoch.
    """
    broken = [name for name, value in losses.items() if not isfinite(value)]
    if broken:
        raise XModalError(
            f"the loss ({', '.join(broken)}) turned NaN or infinite in epoch {epoch}: go on from the last checkpoint "
            "with --c, or train with a smaller learning rate."
        )
