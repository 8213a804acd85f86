"""Episodes about the same support and query: which of the images each of them is about."""

import torch


def of_pairs(
    support: torch.Tensor, query: torch.Tensor, pair: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return support and query of each pair, `(N, …)`; None takes them as they are."""
    return (support, query) if pair is None else (support[pair], query[pair])


def of_shots(pair: torch.Tensor | None, shots: int) -> torch.Tensor | None:
    """Return the numbers of all S shots of each pair, `(N·S,)`, where those of all images stand in a row."""
    if pair is None:
        return None
    return (shots * pair[:, None] + torch.arange(shots, device=pair.device)).flatten()
