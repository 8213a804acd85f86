"""How alike an image and its reference are inside a mask: MAE, PSNR and SSIM.

With x the image, y the reference, L the data range and means over the voxels of the mask:

- MAE = mean |x − y|, in the images' unit
- PSNR = 10·log₁₀(L² / mean (x − y)²), in dB; infinity for equal images
- SSIM = mean of the SSIM map of Wang et al. (2004): a Gaussian window of σ = 1.5 and 11 voxels along every axis,
  population (not sample) covariance, K₁ = 0.01, K₂ = 0.03; 1 for equal images

The map is scikit-image's, `structural_similarity(gaussian_weights=True, use_sample_covariance=False, full=True)`.
Windows near the mask's border see voxels beyond it: only the average is restricted to the mask. Beyond the image's
border the image is mirrored, as scikit-image does; its demand of 11 voxels along every axis does not hold here. A
volume of one slice has the SSIM of the slice, and windows do not know the spacing.

PSNR and SSIM depend on L, so a result is worth little without it. MONAI and others average the map over the whole
image, in which background that is 0 in both counts as perfect.

Several channels: every measure is computed for each and averaged, so a single equal channel makes PSNR infinite. An
empty mask gives NaN, and so do PSNR and SSIM for a data range of 0, that of a constant reference.
"""

from collections.abc import Sequence

import numpy as np
from skimage.metrics import structural_similarity

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry.bounding_box import bounding_box

_RADIUS = 5  # of the window: skimage cuts the Gaussian at 3.5 σ


def image_similarity(
    image: np.ndarray, reference: np.ndarray, mask: np.ndarray, data_range: float | Sequence[float]
) -> dict[str, float]:
    """Compute MAE, PSNR and SSIM as above.

    Args:
        image, reference: `(C, *spatial)`, 2D or 3D.
        mask: bool `(*spatial)`, what counts.
        data_range: L, for all channels or for each, in the images' unit; see `range_inside`.

    Raises:
        XModalError: for shapes that do not belong together and for a data range that is negative, infinite or NaN.
    """
    ranges = np.broadcast_to(np.asarray(data_range, dtype=np.float64), len(image)).tolist()
    _check(image, reference, mask, ranges)
    box = bounding_box(mask, margin=_RADIUS)  # all that a window around a voxel of the mask can see
    mask = mask[box]
    per_channel = [
        _of_one_channel(x[box].astype(np.float64), y[box].astype(np.float64), mask, value)
        for x, y, value in zip(image, reference, ranges)
    ]
    return {name: float(np.mean([channel[name] for channel in per_channel])) for name in per_channel[0]}


def range_inside(reference: np.ndarray, mask: np.ndarray) -> list[float]:
    """Return each channel's largest minus smallest value in the mask, a common L: `(C, *spatial)`, `(*spatial)` → C.

    0 where a channel is constant or the mask is empty.
    """
    return [float(np.ptp(channel[mask])) if mask.any() else 0.0 for channel in reference]


def ssim_map(x: np.ndarray, y: np.ndarray, data_range: float) -> np.ndarray:
    """Return the SSIM of the window around every voxel of two images `(*spatial)`, also of sides below 11 voxels."""
    # skimage mirrors at the border as "symmetric" does: doing it beforehand changes nothing but the size that it checks
    short = [_RADIUS if side <= 2 * _RADIUS else 0 for side in x.shape]
    padded = [np.pad(image, [(n, n) for n in short], mode="symmetric") for image in (x, y)]
    _, similarity = structural_similarity(
        *padded, data_range=data_range, gaussian_weights=True, use_sample_covariance=False, full=True
    )
    return similarity[tuple(slice(n, n + side) for n, side in zip(short, x.shape))]


def _of_one_channel(x: np.ndarray, y: np.ndarray, mask: np.ndarray, data_range: float) -> dict[str, float]:
    if not mask.any():
        return dict.fromkeys(("MAE", "PSNR", "SSIM"), float("nan"))
    difference = (x - y)[mask]
    error = np.square(difference).mean()
    mae = np.abs(difference).mean()
    if data_range == 0:
        return {"MAE": mae, "PSNR": float("nan"), "SSIM": float("nan")}
    return {
        "MAE": mae,
        "PSNR": 10 * np.log10(data_range**2 / error) if error else float("inf"),
        "SSIM": ssim_map(x, y, data_range)[mask].mean(),
    }


def _check(image: np.ndarray, reference: np.ndarray, mask: np.ndarray, ranges: list[float]) -> None:
    if image.shape != reference.shape or image.shape[1:] != mask.shape or mask.dtype != bool:
        raise XModalError(
            f"image {image.shape} and reference {reference.shape} must have the same shape, (channels, *spatial), and "
            f"the mask must be bool of the spatial one: it is {mask.dtype} {mask.shape}."
        )
    if not all(np.isfinite(value) and value >= 0 for value in ranges):
        raise XModalError(f"the data range must be a positive number, for all channels or for each, and is {ranges}.")
