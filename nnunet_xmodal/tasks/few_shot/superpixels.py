"""Superpixels of slices: the classes that few-shot networks learn from where no organ is labelled.

Felzenszwalb and Huttenlocher's graph-based segmentation (International Journal of Computer Vision 59, 2004) as ALPNet
uses it (Ouyang et al., ECCV 2020): scale 1, σ 0.8, at least 400 pixels in an image of 256². Slice by slice, because on
a volume scikit-image takes the slices for channels of one picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.segmentation import felzenszwalb

from nnunet_xmodal.errors import XModalError

_PERCENTILES = (0.5, 99.5)  # what is darkest and brightest; single voxels may be far beyond


@dataclass(frozen=True)
class SuperpixelSettings:
    """Settings of Felzenszwalb's superpixels.

    Attributes:
        scale: of Felzenszwalb's segmentation, for intensities in [0, 1]; larger ones give larger superpixels.
        sigma: of the Gaussian before it, in pixels.
        min_size: pixels that every superpixel has at least.
        foreground: fraction of the range of intensities above which a pixel is no background.

    Raises:
        XModalError: for a `min_size` below 1 and a `foreground` outside of [0, 1).
    """

    scale: float = 1.0
    sigma: float = 0.8
    min_size: int = 400
    foreground: float = 0.1

    def __post_init__(self) -> None:
        if self.min_size < 1:
            raise XModalError(f"superpixels of at least {self.min_size} pixels make no sense: take 1 or more.")
        if not 0 <= self.foreground < 1:
            raise XModalError(f"the threshold of the foreground is {self.foreground:g}: take a fraction from 0 to 1.")

    @classmethod
    def for_patch(cls, size: Sequence[int], **others: Any) -> "SuperpixelSettings":
        """Return settings in which the paper's 400 pixels at 256² keep their share of a patch of another size.

        Args:
            size: H, W of the patch; slices are on its grid, however large they are themselves.
        """
        return cls(min_size=max(1, round(400 * size[0] * size[1] / 256**2)), **others)


def intensity_range(volume: np.ndarray) -> np.ndarray:
    """Return the 0.5th and 99.5th percentile per channel, `(C, …)` → float64 `(C, 2)`."""
    return np.percentile(volume.reshape(len(volume), -1), _PERCENTILES, axis=1).T


def rescaled(image: np.ndarray, intensities: np.ndarray) -> np.ndarray:
    """Scale `(C, …)` to float64 in [0, 1], clipped: 0 and 1 at the two ends of `intensities` `(C, 2)`.

    A channel without contrast is 0 throughout.
    """
    low, high = intensities.T.reshape(2, -1, *(1,) * (image.ndim - 1))
    extent = np.where(high > low, high - low, np.inf)
    return np.clip((image - low) / extent, 0, 1)


def foreground_of(image: np.ndarray, threshold: float) -> np.ndarray:
    """Return bool `(H, W)`, the largest component of the pixels that are above the threshold, its holes filled.

    Pixels count where any channel of the image, `(C, H, W)` in [0, 1], is above it; neighbours share a side.
    """
    components, n = ndimage.label((image > threshold).any(0))
    if n == 0:
        return np.zeros(image.shape[1:], bool)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return ndimage.binary_fill_holes(components == sizes.argmax())


def felzenszwalb_superpixels(
    image: np.ndarray, settings: SuperpixelSettings = SuperpixelSettings(), intensities: np.ndarray | None = None
) -> np.ndarray:
    """Return the superpixels of a slice; equal input gives equal output, and no label is read.

    Pixels of the foreground (see `foreground_of`) belong to exactly one superpixel, others to none. Superpixels have
    from `settings.min_size` pixels to as many as the foreground has: where its edge cuts off less, that goes to the
    neighbour with the longest common border. A foreground of fewer pixels has no superpixel at all.

    Args:
        image: `(H, W)` or `(C, H, W)`, background darkest.
        intensities: `(C, 2)`, ends of the range of intensities; those of the volume, so that dark slices stay dark. The
            slice's own if None.

    Returns:
        int32 `(H, W)`: 0 outside of the foreground, 1 … n.

    Raises:
        XModalError: for an image of another number of axes, or with NaN or infinite pixels.
    """
    if image.ndim not in (2, 3):
        raise XModalError(f"superpixels are made slice by slice, (H, W) or (C, H, W), got an array of {image.shape}.")
    image = image.reshape(-1, *image.shape[-2:])
    if not np.isfinite(image).all():
        raise XModalError("a slice holds NaN or infinite pixels: replace them in the images, for example by zero.")
    image = rescaled(image, intensity_range(image) if intensities is None else np.asarray(intensities))
    foreground = foreground_of(image, settings.foreground)
    if foreground.sum() < settings.min_size:
        return np.zeros(foreground.shape, np.int32)
    segments = felzenszwalb(
        np.where(foreground, image, 0).transpose(1, 2, 0),
        scale=settings.scale,
        sigma=settings.sigma,
        min_size=settings.min_size,
        channel_axis=-1,
    )
    return _without_small(_counted(np.where(foreground, segments + 1, 0)), settings.min_size)


def _counted(labels: np.ndarray) -> np.ndarray:
    """Renumbers 1 … n without a gap, in the same order; 0 stays."""
    values, numbers = np.unique(labels, return_inverse=True)
    return numbers.reshape(labels.shape).astype(np.int32) + (values[0] != 0)


def _without_small(labels: np.ndarray, min_size: int) -> np.ndarray:
    """Merges the smallest label into the neighbour with the longest common border until none is below `min_size`."""
    sizes = np.bincount(labels.ravel()).astype(float)
    borders = _borders(labels, len(sizes))
    becomes = np.arange(len(sizes))
    sizes[0] = np.inf
    while sizes.min() < min_size and np.isfinite(sizes).sum() > 1:
        smallest = sizes.argmin()
        neighbour = borders[smallest].argmax()
        becomes[becomes == smallest] = neighbour
        sizes[neighbour] += sizes[smallest]
        sizes[smallest] = np.inf
        borders[neighbour] += borders[smallest]
        borders[:, neighbour] += borders[:, smallest]
        borders[neighbour, neighbour] = 0
        borders[smallest] = borders[:, smallest] = 0
    return _counted(becomes[labels])


def _borders(labels: np.ndarray, n: int) -> np.ndarray:
    """`(n, n)`: how many pairs of pixels that share a side have these labels; 0 with itself and with label 0."""
    counts = np.zeros(n * n, np.int64)
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        counts += np.bincount((one.astype(np.int64) * n + other).ravel(), minlength=n * n)
    matrix = counts.reshape(n, n)
    matrix = matrix + matrix.T
    matrix[0] = matrix[:, 0] = 0
    np.fill_diagonal(matrix, 0)
    return matrix
