"""The tiles of nnU-Net's sliding window."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian


def padded(predictor: nnUNetPredictor, image: torch.Tensor) -> tuple[torch.Tensor, tuple]:
    """Pad the image to the patch at least, `(C, *spatial)` → `(C, *padded)`; return it and the slices that undo it."""
    return pad_nd_image(image, predictor.configuration_manager.patch_size, "constant", {"value": 0}, True, None)


def tiles_of(predictor: nnUNetPredictor, image: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield tiles `(1, C, *patch)` of a preprocessed image `(C, *spatial)` on the predictor's device, slices for 2d."""
    image, _ = padded(predictor, image)
    for slicer in predictor._internal_get_sliding_window_slicers(image.shape[1:]):
        yield image[slicer][None].to(predictor.device)


def tile_weight(predictor: nnUNetPredictor, device: torch.device) -> torch.Tensor:
    """Return the weight of every position of a tile, float32 `patch`: nnU-Net's Gaussian, or 1 where it is not used."""
    patch = tuple(predictor.configuration_manager.patch_size)
    if not predictor.use_gaussian:
        return torch.ones(patch, device=device)
    return compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, dtype=torch.float32, device=device)


def mirrorings(axes: Sequence[int] | None) -> list[list[int]]:
    """Return the axes of a batch that each mirrored copy is flipped along, in nnU-Net's order: none of them first.

    Args:
        axes: spatial axes that may be mirrored, from 0; None for no mirroring.
    """
    axes = axes or ()
    chosen = (axes_of for n in range(len(axes) + 1) for axes_of in itertools.combinations(axes, n))
    return [[axis + 2 for axis in axes_of] for axes_of in chosen]
