"""Hierarchical separable convolution (Jia et al., Multimodal Brain Tumor Segmentation …, 2019), in the place of 3³.

The paper's own code is not public; the block follows the authors' successor, HDC-Net (Luo et al., 2020), whose code is.
"""

from collections.abc import Sequence
from math import gcd

import torch
from torch import nn

from nnunet_xmodal.networks.plan_layers import PlanLayers

_GROUPS = 4


class HierarchicalSeparableConvolution(nn.Module):
    """View- and group-wise separable: convolutions flat along one axis, in groups that feed each other, then one flat
    along another axis.

        u = conv₁(x), split into groups u_1 … u_4
        v_1 = u_1, v_2 = conv(u_2), v_g = conv(u_g + v_{g−1})      flat along `views[0]`: 3×3×1
        y = conv(x' + conv₁([v_1 … v_4]))                            flat along `views[1]`: 1×3×3

    x' is x, or its 1×1 convolution where the widths differ. Every convolution is the plan's, with norm and
    nonlinearity, and group g sees g − 1 convolutions far: several fields of view in one layer. In 2D the kernels are
    3×1 and 1×3.

    Args:
        layers: of the plan.
        channels, width: of x and of y.
        kernel: of the plan; the axes of `views` have 1 instead.
        views: which axis the grouped convolutions and the last one do not see.

    Shape: `(B, channels, *spatial)` → `(B, width, *spatial)`. Widths that four does not divide have two groups, or one.
    """

    def __init__(
        self, layers: PlanLayers, channels: int, width: int, kernel: Sequence[int], views: tuple[int, int] = (-1, 0)
    ) -> None:
        super().__init__()
        groups = gcd(width, _GROUPS)
        flat, across = (_flat(kernel, axis) for axis in views)
        self.spread = layers.convolution(channels, width, 1)
        self.groups = nn.ModuleList(
            layers.convolution(width // groups, width // groups, flat) for _ in range(groups - 1)
        )
        self.join = layers.convolution(width, width, 1)
        self.shortcut = nn.Identity() if channels == width else layers.convolution(channels, width, 1)
        self.across = layers.convolution(width, width, across)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return y; see the class."""
        first, *others = self.spread(x).chunk(len(self.groups) + 1, 1)
        parts = [first]
        for number, (convolution, group) in enumerate(zip(self.groups, others)):
            parts.append(convolution(group + parts[-1] if number else group))
        return self.across(self.shortcut(x) + self.join(torch.cat(parts, 1)))


def _flat(kernel: Sequence[int], axis: int) -> list[int]:
    flat = list(kernel)
    flat[axis] = 1
    return flat
