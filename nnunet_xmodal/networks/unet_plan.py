"""What nnU-Net's plans say about a U-Net, ready to build encoders and decoders from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trusted_names import locate


@dataclass(frozen=True)
class UNetPlan:
    """A configuration of nnU-Net's plans together with the numbers that only nnU-Net knows at run time.

    Attributes:
        architecture: `arch_kwargs` with classes in the place of their names, of either planner family.
        input_channels: image channels and, in a cascade, one per label of the previous stage.
        num_classes: heads of the output.
        deep_supervision: one output per decoder level instead of the finest alone.
        streams: per encoder the indices of its image channels.
        reduce_skips: see MultiStreamEncoder; None where the plans leave it to the trainer.
        patch_size: voxels along each axis.
    """

    architecture: dict
    input_channels: int
    num_classes: int
    deep_supervision: bool
    streams: list[list[int]]
    reduce_skips: bool | None = None
    patch_size: tuple[int, ...] = ()

    @classmethod
    def from_configuration(
        cls,
        configuration: ConfigurationManager,
        input_channels: int,
        num_classes: int,
        deep_supervision: bool,
        streams: list[list[int]],
    ) -> UNetPlan:
        """Read a plan from nnU-Net's ConfigurationManager.

        Raises:
            XModalError: if the patch is too small for the number of levels, or for a name of no layer.
        """
        architecture = dict(configuration.network_arch_init_kwargs)
        for name in configuration.network_arch_init_kwargs_req_import:
            if architecture.get(name) is not None:
                architecture[name] = locate(architecture[name], f"{name} in the plans")
        architecture.pop("streams", None)
        reduce_skips = architecture.pop("reduce_skips", None)
        check_patch_size(configuration.patch_size, architecture["strides"])
        patch_size = tuple(int(side) for side in configuration.patch_size)
        return cls(architecture, input_channels, num_classes, deep_supervision, streams, reduce_skips, patch_size)

    @property
    def arguments(self) -> dict:
        """Return what the constructors of our networks take."""
        return {
            "input_channels": self.input_channels,
            "num_classes": self.num_classes,
            "streams": self.streams,
            "deep_supervision": self.deep_supervision,
            **self.architecture,
        }


def encoder_of(architecture: dict, input_channels: int) -> PlainConvEncoder | ResidualEncoder:
    """Build one encoder of an architecture, which returns its skips from fine to coarse."""
    family = ResidualEncoder if "n_blocks_per_stage" in architecture else PlainConvEncoder
    arguments = {key: value for key, value in architecture.items() if key != "n_conv_per_stage_decoder"}
    return family(input_channels, return_skips=True, **arguments)


def with_unnamed(
    streams: list[list[int]], input_channels: int, ignored_channels: Sequence[int] = ()
) -> list[list[int]]:
    """Add to every stream the input channels that none of them names: the one-hot labels of a cascade.

    Args:
        ignored_channels: image channels that no stream reads, in the baselines with one modality.
    """
    named = {index for stream in streams for index in stream} | set(ignored_channels)
    unnamed = [index for index in range(input_channels) if index not in named]
    return [[*stream, *unnamed] for stream in streams]


def sizes_of_levels(input_size: Sequence[int], strides: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the sizes of the features of every level, from fine to coarse."""
    sizes = []
    for stride in strides:
        input_size = [side // s for side, s in zip(input_size, stride)]
        sizes.append(input_size)
    return sizes


def check_patch_size(patch_size: Sequence[int], strides: Sequence[int | Sequence[int]]) -> None:
    """Check that a network of these strides can read a patch.

    Raises:
        XModalError: if a side of the patch is not divisible by the network's strides along it, or the bottleneck has
            a single position, which instance normalisation cannot normalise.
    """
    total = np.prod([np.broadcast_to(stride, len(patch_size)) for stride in strides], axis=0)
    sides = [int(side) for side in patch_size]
    if any(side % int(stride) for side, stride in zip(sides, total)):
        raise XModalError(
            f"the plans ask for {len(strides)} levels, which divide the patch by {total.tolist()}, but its size is "
            f"{sides}: take fewer levels or a patch size divisible by these numbers."
        )
    if prod(side // int(stride) for side, stride in zip(sides, total)) < 2:
        raise XModalError(
            f"the plans ask for {len(strides)} levels, which leave a single position of the patch {sides} at the "
            "bottleneck: take fewer levels or a larger patch."
        )


def unused_heads_without_gradient(seg_layers: nn.ModuleList, deep_supervision: bool) -> None:
    """Freeze the heads that a network without deep supervision never calls.

    nnU-Net builds them all so that checkpoints load either way; DistributedDataParallel stops at a parameter that
    gets no gradient.
    """
    if not deep_supervision:
        for head in seg_layers[:-1]:
            head.requires_grad_(False)
