"""The tiles of nnU-Net's sliding window."""

from collections.abc import Iterator

import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor


def padded(predictor: nnUNetPredictor, image: torch.Tensor) -> tuple[torch.Tensor, tuple]:
    """Pad the image to the patch at least, `(C, *spatial)` → `(C, *padded)`; return it and the slices that undo it."""
    return pad_nd_image(image, predictor.configuration_manager.patch_size, "constant", {"value": 0}, True, None)


def tiles_of(predictor: nnUNetPredictor, image: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield tiles `(1, C, *patch)` of a preprocessed image `(C, *spatial)` on the predictor's device, slices for 2d."""
    image, _ = padded(predictor, image)
    for slicer in predictor._internal_get_sliding_window_slicers(image.shape[1:]):
        yield image[slicer][None].to(predictor.device)
