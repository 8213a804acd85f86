"""Batch normalisation for the dimensions of a convolution."""

from torch import nn

_BATCH_NORM = {nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d}


def batch_norm_of(conv_op: type[nn.Module]) -> type[nn.Module]:
    """Return nn.BatchNorm3d for nn.Conv3d, and so on."""
    return _BATCH_NORM[conv_op]
