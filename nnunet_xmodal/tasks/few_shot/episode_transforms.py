"""Transforms of a query: it is moved, bent and of another contrast (CRTPNet, section 2.5; ALPNet, 2020)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

Range = tuple[float, float]


@dataclass(frozen=True)
class EpisodeTransform:
    """An affine and an elastic map of image and mask together, then a gamma curve on the image.

    It is drawn at every call, from numpy's global generator. The defaults are ALPNet's.

    Image linear, beyond its border the pixel at the border; mask nearest, beyond its border 0.

    Attributes:
        rotation: degrees, about the centre.
        shift: pixels, along either axis.
        shear: degrees.
        scale: above 1 enlarges.
        alpha: of the elastic map, the factor of its smoothed noise, which is uniform in [−1, 1]; pixels.
        sigma: of that smoothing, pixels.
        gamma: exponent; drawn uniformly, as all others.
    """

    rotation: Range = (-5.0, 5.0)
    shift: Range = (-5.0, 5.0)
    shear: Range = (-5.0, 5.0)
    scale: Range = (0.9, 1.2)
    alpha: float = 10.0
    sigma: float = 5.0
    gamma: Range = (0.5, 1.5)

    def __call__(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw a transform and apply it to an image and its mask.

        Args:
            image: float32 `(C, H, W)`.
            mask: integers `(H, W)`, masks or maps of several.

        Returns:
            Both, of the same shapes and types.
        """
        draw = np.random.uniform
        matrix = affine_matrix(draw(*self.rotation), draw(*self.shear), draw(*self.scale))
        coordinates = source_coordinates(mask.shape, matrix, draw(*self.shift, 2))
        if self.alpha:
            noise = draw(-1, 1, (2, *mask.shape))
            coordinates = coordinates + self.alpha * gaussian_filter(noise, (0, self.sigma, self.sigma))
        image, mask = resampled(image, mask, coordinates)
        return with_gamma(image, draw(*self.gamma)), mask


ALPNET = EpisodeTransform()
"""With the ranges of ALPNet's code, which CRTPNet names no others for."""


def unchanged(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as they are: the paper's transform of a support."""
    return image, mask


def affine_matrix(rotation: float, shear: float, scale: float) -> np.ndarray:
    """Return `(2, 2)`, acting on (y, x) from a centre: sheared along x, then enlarged, then rotated; degrees.

    A positive rotation turns the axis x towards the axis y, clockwise as images are shown.
    """
    angle, slope = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    rotated = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return scale * rotated @ np.array([[1.0, 0.0], [slope, 1.0]])


def source_coordinates(shape: Sequence[int], matrix: np.ndarray, shift: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return `(2, H, W)`, where each pixel y, x of the result comes from, if p ↦ matrix·(p − c) + c + shift.

    c is the centre of the image, between pixels if their number is even.
    """
    centre = (np.array(shape) - 1) / 2
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij")).reshape(2, -1)
    inverse = np.linalg.inv(matrix)
    source = inverse @ (pixels - (centre + np.asarray(shift))[:, None]) + centre[:, None]
    return source.reshape(2, *shape)


def resampled(image: np.ndarray, mask: np.ndarray, coordinates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Resample image `(C, H, W)` and mask `(H, W)` at `coordinates` `(2, H, W)`, see EpisodeTransform."""
    moved = [map_coordinates(channel, coordinates, order=1, mode="nearest") for channel in image]
    # without the grid modes, a place half a pixel beyond the border would already be outside
    return np.stack(moved), map_coordinates(mask, coordinates, order=0, mode="grid-constant", cval=0)


def with_gamma(image: np.ndarray, gamma: float) -> np.ndarray:
    """Scale every channel of `(C, …)` to [0, 1], raise it to the power gamma, and scale it back: its ends stay."""
    axes = tuple(range(1, image.ndim))
    low, high = image.min(axes, keepdims=True), image.max(axes, keepdims=True)
    extent = np.where(high > low, high - low, 1)
    return (((image - low) / extent) ** gamma * extent + low).astype(image.dtype)
