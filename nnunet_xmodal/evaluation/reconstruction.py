"""How near a reconstructed map is to its reference inside a mask: RMSE and HFEN in percent, SSIM and PSNR.

With x the map, y the reference, both 0 outside the mask, and norms over the voxels of the mask:

- RMSE = 100·‖x − y‖ / ‖y‖
- HFEN = 100·‖LoG(x) − LoG(y)‖ / ‖LoG(y)‖, the high-frequency error norm (Ravishankar & Bresler, 2011): LoG is the
  Laplacian of a Gaussian of σ = 1.5 voxels, cut to 15 voxels along every axis
- RMSE, demeaned = the same once both are counted from their means inside the mask
- RMSE, detrended = the same once the map is also divided by the slope of its linear fit to the reference, as the
  challenge's second edition has it (Marques et al., 2021): what is left are errors that no reference and no scale mends
- SSIM and PSNR as in `image_similarity`, with the range of the reference inside the mask as L

RMSE and HFEN are those of the QSM challenge (Langkammer et al., QSM: report from the 2016 reconstruction challenge,
2018), which counts the voxels around the mask to which LoG spreads as well. Nothing is subtracted from these two: the
mean of a susceptibility map is a matter of reference, and one that differs from the reference's counts as an error.
Both depend on voxels, not on millimetres.

**SSIM** compares means by their ratio, which makes sense of positive intensities only: susceptibilities are around 0,
and where mean values are opposite the map would call equal structures the reverse of each other. So intensities are
counted from the smallest of the reference inside the mask. PSNR does not see the difference.

An empty mask gives NaN everywhere, a reference of zeros in RMSE and HFEN, a constant one in SSIM and PSNR.
"""

import numpy as np
from scipy.ndimage import gaussian_laplace

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.image_similarity import image_similarity, range_inside
from nnunet_xmodal.geometry.bounding_box import bounding_box

DIRECTIONS = {
    "RMSE_percent": "lower",
    "RMSE_demeaned_percent": "lower",
    "RMSE_detrended_percent": "lower",
    "HFEN_percent": "lower",
    "SSIM": "higher",
    "PSNR": "higher",
}
"""Which is better."""

_SIGMA = 1.5  # voxels
_RADIUS = 7  # voxels: 15 along every axis


def reconstruction_quality(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Compute the measures of DIRECTIONS.

    Args:
        image, reference: `(D, H, W)` in the same unit, ppm for susceptibility.
        mask: bool `(D, H, W)`, what counts.

    Raises:
        XModalError: for shapes that differ and for a mask that is not bool.
    """
    if not image.shape == reference.shape == mask.shape or mask.dtype != bool:
        raise XModalError(
            f"map {image.shape} and reference {reference.shape} must have the same shape, (z, y, x), and the mask must "
            f"be bool of the same: it is {mask.dtype} {mask.shape}."
        )
    if not mask.any():
        return dict.fromkeys(DIRECTIONS, float("nan"))
    box = bounding_box(mask)  # all beyond is 0, for LoG as well, and the same in both for SSIM's windows
    mask = mask[box]
    x, y = (np.where(mask, volume[box], 0).astype(np.float64) for volume in (image, reference))
    smallest = y[mask].min()
    similar = image_similarity((x - smallest)[None], (y - smallest)[None], mask, range_inside(y[None], mask))
    of_x, of_y = (np.where(mask, volume - volume[mask].mean(), 0) for volume in (x, y))
    return {
        "RMSE_percent": relative_error(x, y, mask),
        "RMSE_demeaned_percent": relative_error(of_x, of_y, mask),
        "RMSE_detrended_percent": relative_error(_detrended(of_x, of_y, mask), of_y, mask),
        "HFEN_percent": relative_error(laplacian_of_gaussian(x), laplacian_of_gaussian(y), mask),
        "SSIM": similar["SSIM"],
        "PSNR": similar["PSNR"],
    }


def relative_error(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> float:
    """Return 100·‖x − y‖/‖y‖ over the voxels of a mask, NaN where y is 0 everywhere."""
    norm = np.linalg.norm(y[mask])
    return float(100 * np.linalg.norm((x - y)[mask]) / norm) if norm else float("nan")


def _detrended(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`x` divided by the slope of its fit to `y`, both of mean 0 inside the mask; NaN where there is no slope."""
    square = (y[mask] ** 2).sum()
    slope = (x[mask] * y[mask]).sum() / square if square else 0.0
    return x / slope if slope else np.full_like(x, np.nan)


def laplacian_of_gaussian(volume: np.ndarray) -> np.ndarray:
    """Apply HFEN's LoG, with zeros beyond the border: `(D, H, W)` → the same."""
    return gaussian_laplace(volume, _SIGMA, mode="constant", truncate=_RADIUS / _SIGMA)
