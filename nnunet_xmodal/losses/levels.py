"""What nnU-Net's losses compare: one tensor, or one for every level of a decoder."""

from typing import TypeAlias

import torch

Levels: TypeAlias = torch.Tensor | list[torch.Tensor]
"""A tensor, or with deep supervision a list of them from fine to coarse."""
