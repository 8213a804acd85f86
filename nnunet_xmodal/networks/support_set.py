"""The slices that tell a few-shot network what its labels are."""

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_xmodal.errors import XModalError


class SupportSet(nn.Module):
    """L labels × K chunks along each label's extent × S shots: images, masks, whether there is one, and where.

    Buffers of fixed shape, so that every state dict holds them. Their names contain `.seg_layers.`, which nnU-Net's
    `-pretrained_weights` passes over: another dataset has other labels, and a support of its own.

    Args:
        labels, chunks, shots: L, K, S.
        channels: C of the images.
        size: H, W.
    """

    def __init__(self, labels: int, chunks: int, shots: int, channels: int, size: Sequence[int]) -> None:
        super().__init__()
        self.seg_layers = nn.Module()
        places = (labels, chunks, shots)
        self.seg_layers.register_buffer("images", torch.zeros(*places, channels, *size))
        self.seg_layers.register_buffer("masks", torch.zeros(*places, *size, dtype=torch.uint8))
        self.seg_layers.register_buffer("exists", torch.zeros(places, dtype=torch.bool))
        self.seg_layers.register_buffer("positions", torch.zeros(places))

    @property
    def images(self) -> torch.Tensor:
        """Return the images, `(L, K, S, C, H, W)`, preprocessed."""
        return self.seg_layers.images

    @property
    def masks(self) -> torch.Tensor:
        """Return the masks, `(L, K, S, H, W)`, uint8, 1 for the label."""
        return self.seg_layers.masks

    @property
    def exists(self) -> torch.Tensor:
        """Return which slices there are, bool `(L, K, S)`."""
        return self.seg_layers.exists

    @property
    def positions(self) -> torch.Tensor:
        """Return the slices' positions in their scans, `(L, K, S)`, from 0 to 1."""
        return self.seg_layers.positions

    def put(
        self, label: int, chunk: int, shot: int, image: torch.Tensor, mask: torch.Tensor, position: float | None = None
    ) -> None:
        """Put in one slice that shows a label.

        Args:
            label, chunk, shot: from 0; label 0 is the first behind the background.
            image: `(C, H, W)`, preprocessed as the slices to segment.
            mask: `(H, W)`, not 0 where the label is.
            position: where in its scan the slice lies, 0 for the first and 1 for the last one; the middle of the
                chunk if None.

        Raises:
            XModalError: for a place that does not exist, another shape, NaN or infinity, and an empty mask.
        """
        chunks = self.exists.shape[1]
        for name, value, count in zip(("label", "chunk", "shot"), (label, chunk, shot), self.exists.shape):
            if not 0 <= value < count:
                raise XModalError(f"the support has no {name} {value}: it takes 0 to {count - 1}.")
        what = f"the support slice of label {label}, chunk {chunk}, shot {shot}"
        for article, tensor, like in (("an image", image, self.images), ("a mask", mask, self.masks)):
            shape = list(like.shape[3:])
            if list(tensor.shape) != shape:
                raise XModalError(f"{what} has {article} of the shape {list(tensor.shape)}: cut or pad it to {shape}.")
        if not torch.isfinite(image).all():
            raise XModalError(f"{what} holds NaN or infinite pixels: replace them, for example by zero.")
        if not mask.any():
            raise XModalError(f"{what} has an empty mask: take a slice that shows the label.")
        with torch.no_grad():
            self.images[label, chunk, shot] = image.to(self.images)
            self.masks[label, chunk, shot] = (mask != 0).to(self.masks)
            self.exists[label, chunk, shot] = True
            self.positions[label, chunk, shot] = (chunk + 0.5) / chunks if position is None else position

    def clear(self) -> None:
        """Take all slices out, before another support is put in."""
        with torch.no_grad():
            for buffer in (self.images, self.masks, self.exists, self.positions):
                buffer.zero_()

    def answering(
        self,
        label: int,
        batch: int,
        chunk: torch.Tensor | int | None = None,
        position: torch.Tensor | float | None = None,
    ) -> torch.Tensor:
        """Return the chunks of a label that answer for each slice: all, `(B, K)`, or the nearest, `(B, 1)`.

        Args:
            chunk: of every slice, `(B,)`, or of all: this one, or the nearest with support (the lower of two).
            position: of every slice, `(B,)`, or of all: the chunk with the nearest slice (the lower of two).
        """
        exists, positions = self.exists[label], self.positions[label]  # K S
        chunks = torch.arange(len(exists), device=exists.device)
        if chunk is None and position is None:
            return chunks.expand(batch, -1)
        if position is None:
            wanted = torch.as_tensor(chunk, device=exists.device).reshape(-1, 1, 1)
            distance = (wanted - chunks[:, None]).abs().to(positions.dtype)  # B or 1, K, 1
            distance = distance.expand(-1, -1, exists.shape[1])
        else:
            wanted = torch.as_tensor(position, dtype=positions.dtype, device=positions.device).reshape(-1, 1, 1)
            distance = (wanted - positions).abs()
        distance = distance.masked_fill(~exists, torch.finfo(distance.dtype).max).amin(2)
        nearest = distance == distance.amin(1, keepdim=True)
        return nearest.to(torch.int8).argmax(1, keepdim=True).expand(batch, -1)  # of several the first
