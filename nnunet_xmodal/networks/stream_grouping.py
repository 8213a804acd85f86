"""Which channels the two streams of a fusion hold, and weights that know it."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_xmodal.errors import XModalError


def check_several_streams(streams: Sequence[Sequence[int]], trainer: str, purpose: str, way_out: str) -> None:
    """Check that there are streams to choose from.

    Args:
        purpose: what the trainer does with them, "fuses two or more streams".
        way_out: what to do where there is one, beside giving dataset.json two.

    Raises:
        XModalError: for one stream.
    """
    if len(streams) < 2:
        raise XModalError(
            f"{trainer} {purpose} but the plans hold one, {streams}: give dataset.json two streams, or {way_out}."
        )


def check_two_streams(streams: Sequence[Sequence[int]]) -> None:
    """Check that there are exactly two streams.

    Raises:
        XModalError: for any other number of streams than two, with the entry of dataset.json that gives two.
    """
    if len(streams) == 2:
        return
    channels = sorted(index for stream in streams for index in stream)
    if len(channels) < 2:
        raise XModalError("features of two modalities are to be fused but the dataset has a single channel.")
    half = len(channels) // 2
    raise XModalError(
        f"exactly two streams are fused but the plans hold {len(streams)}, {[list(stream) for stream in streams]}: "
        f'write for example "xmodal": {{"streams": [{channels[:half]}, {channels[half:]}]}} into dataset.json, with '
        "the channels that belong together side by side, and plan again."
    )


class StreamGrouping(nn.Module):
    """The streams as a buffer, so that weights know which channels they read.

    Two groupings with as many channels each have weights of the same shapes; loading those of the other one would go
    unnoticed. The buffer has one length for all groupings, because nnU-Net compares shapes first.

    Raises:
        XModalError: when a state of other streams is loaded, before any weight is.
    """

    length = 1024  # bytes, enough for some two hundred channels

    def __init__(self, streams: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.streams = [list(stream) for stream in streams]
        text = json.dumps(self.streams, separators=(",", ":")).encode()
        if len(text) > self.length:
            raise XModalError(f"streams of {sum(map(len, self.streams))} channels are more than a checkpoint can name.")
        self.register_buffer("encoded", torch.tensor(list(text.ljust(self.length)), dtype=torch.uint8))

    def _load_from_state_dict(self, state_dict: dict[str, torch.Tensor], prefix: str, *args: Any) -> None:
        encoded = state_dict.get(f"{prefix}encoded")
        if encoded is not None and not encoded.is_meta:
            theirs = json.loads(bytes(encoded.tolist()))
            if theirs != self.streams:
                raise XModalError(
                    f"the weights were trained on the streams {theirs}, but the plans or dataset.json say "
                    f"{self.streams}: restore the streams, or train without these weights."
                )
        super()._load_from_state_dict(state_dict, prefix, *args)
