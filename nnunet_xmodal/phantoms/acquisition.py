"""From the anatomy of a phantom to an image of it."""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter

from nnunet_xmodal.phantoms.ellipsoids import millimetres_from_centre


def acquired(
    rng: np.random.Generator,
    anatomy: np.ndarray,
    spacing: Sequence[float],
    blur_mm: float,
    texture: float,
    noise: tuple[float, float],
) -> np.ndarray:
    """Add partial volume, tissue texture, a smooth bias of up to about 20 percent, and noise.

    Args:
        anatomy: `(z, y, x)`, around 1.
        spacing: mm along z, y, x.
        blur_mm: standard deviation of the blur.
        texture: strength of what varies within a tissue, before it is smoothed over 1.5 mm.
        noise: range of the standard deviation.

    Returns:
        Positive, `(z, y, x)`: nnU-Net crops what is zero in all channels.
    """
    pattern = texture * gaussian_filter(rng.normal(size=anatomy.shape), 1.5 / np.array(spacing))
    millimetres = millimetres_from_centre(anatomy.shape, spacing)
    bias = np.tensordot(rng.uniform(-0.1, 0.1, 3), millimetres / np.abs(millimetres).max(), 1)
    added = rng.uniform(*noise) * rng.normal(size=anatomy.shape)
    blurred = gaussian_filter(anatomy, blur_mm / np.array(spacing))
    return np.maximum((blurred + pattern) * np.exp(bias) * rng.uniform(0.85, 1.15) + added, 0.01)
