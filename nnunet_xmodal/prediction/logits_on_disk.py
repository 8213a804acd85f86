"""The sliding window with its sums in a file: for images whose results do not fit into the memory.

The file has no name any more while it is used, so that nothing is left of it whatever ends the process, and its room on
the disk is reserved before: a full disk is a sentence, and no signal in the middle of a sum.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from tqdm import tqdm

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import explained

_PLANES = 16  # divided at a time


@torch.inference_mode()
def window_on_disk(predictor: nnUNetPredictor, data: torch.Tensor, slicers: list[tuple], folder: Path) -> torch.Tensor:
    """Predict tile by tile as nnU-Net does, with the same numbers: `(C, *padded)` → float16 `(heads, *padded)`.

    Args:
        folder: on the disk that takes the results, (heads + 1) × 2 bytes per voxel.

    Raises:
        XModalError: for a disk without that room, and for infinite logits.
    """
    shape = tuple(data.shape[1:])
    logits = zeros_on_disk((predictor.label_manager.num_segmentation_heads, *shape), folder)
    weights = zeros_on_disk(shape, folder)
    gaussian: torch.Tensor | int = 1
    if predictor.use_gaussian:
        patch = tuple(predictor.configuration_manager.patch_size)
        gaussian = compute_gaussian(patch, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu"))
    for slicer in tqdm(slicers, disable=not predictor.allow_tqdm):
        tile = torch.clone(data[slicer][None], memory_format=torch.contiguous_format).to(predictor.device)
        prediction = predictor._internal_maybe_mirror_and_predict(tile)[0].to("cpu")
        if predictor.use_gaussian:
            prediction *= gaussian
        logits[slicer] += prediction
        weights[slicer[1:]] += gaussian
    for start in range(0, shape[0], _PLANES):
        part = logits[:, start : start + _PLANES]
        part /= weights[start : start + _PLANES]
        if torch.isinf(part).any():
            raise XModalError(f"the network of {predictor.trainer_name} returned infinite voxels: train it anew.")
    return logits


def zeros_on_disk(shape: tuple[int, ...], folder: Path) -> torch.Tensor:
    """Return a float16 tensor of zeros whose memory is a file that has no name.

    Raises:
        XModalError: for a disk without room for it.
    """
    size = int(np.prod(shape)) * 2
    with explained(folder / "results"), tempfile.TemporaryFile(dir=folder) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        return torch.from_numpy(np.memmap(file, np.float16, "r+", shape=shape))
