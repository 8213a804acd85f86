"""Phantoms for susceptibility mapping: heads of known susceptibility, and the field that a scanner measures of them.

A brain of smooth random shape has a rim of cerebrospinal fluid, a folded cortex, white matter, ventricles, the deep
grey nuclei on both sides and veins, thin tubes that wind through it. Every tissue has its susceptibility, drawn anew
for every case around that of the second QSM challenge's phantom (Marques et al., QSM reconstruction challenge 2.0: A
realistic in silico head phantom, 2021), and a smooth texture. Positions and sizes are fractions of the grid's extent:
it should be that of a head, but small grids show all of it too, in less detail.

The head lies tilted in the scanner: the main field is oblique to the array, and files say so by their direction
cosines. The field is computed on a grid twice as fine, averaged over voxels, and noise comes last: no method inverts
exactly the model that made it.

Susceptibility is counted from its mean in the brain, as dipoles leave no trace of it, and is 0 outside.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset
from nnunet_xmodal.physics.dipole import field_direction
from nnunet_xmodal.physics.simulate import block_means, local_field, with_noise

SHAPE = (48, 80, 72)
"""Voxels along z, y, x."""
SPACING = (2.5, 2.0, 2.0)
"""Millimetres along z, y, x."""
CHANNELS = ("field", "susceptibility")
"""Input and, as the last channel, target; both in ppm."""
NOISE = (0.001, 0.003)
"""Range of the noise's standard deviation in ppm; 0.002 ppm is SNR 31 at 3 T and an echo time of 20 ms."""
TILT = 20.0
"""Degrees by which the head is turned about each of its axes at most."""
FINER = 2
"""How many times as fine as the phantom's grid the one is on which its field is computed."""

_SMALLEST = 16  # voxels; less leaves nothing of nuclei
_SPREAD = 0.15  # of susceptibilities between cases, relative
_TEXTURE = 0.006  # ppm

_CSF, _GREY, _WHITE, _VEIN = 0.019, 0.020, -0.030, 0.190  # ppm

_NUCLEI = {  # ppm; centre as a fraction of the brain's radii, z up, y back, |x| to the side; radii likewise
    "caudate nucleus": (0.044, (0.12, -0.22, 0.20), (0.20, 0.18, 0.08)),
    "putamen": (0.038, (0.00, -0.08, 0.42), (0.16, 0.24, 0.09)),
    "globus pallidus": (0.131, (-0.04, -0.02, 0.29), (0.11, 0.13, 0.07)),
    "thalamus": (0.020, (0.06, 0.22, 0.18), (0.16, 0.20, 0.13)),
    "red nucleus": (0.100, (-0.24, 0.20, 0.09), (0.09, 0.07, 0.06)),
    "substantia nigra": (0.111, (-0.34, 0.10, 0.16), (0.06, 0.11, 0.08)),
    "dentate nucleus": (0.152, (-0.50, 0.42, 0.22), (0.09, 0.11, 0.10)),
}


class SusceptibilityPhantom(NamedTuple):
    """A head with its local field and its susceptibility map.

    Attributes:
        field: float32 `(z, y, x)` in ppm, local and noisy, 0 outside the mask.
        susceptibility: float32 `(z, y, x)` in ppm, 0 outside the mask.
        mask: uint8 `(z, y, x)`, 1 in the brain.
        direction_cosines: `(3, 3)`, columns are the physical directions of x, y and z.
    """

    field: np.ndarray
    susceptibility: np.ndarray
    mask: np.ndarray
    direction_cosines: np.ndarray


def susceptibility_phantom(
    rng: np.random.Generator, shape: Sequence[int] = SHAPE, spacing: Sequence[float] = SPACING
) -> SusceptibilityPhantom:
    """Make one head; equal states of `rng` give equal phantoms.

    Args:
        shape, spacing: voxels and mm along z, y, x.

    Raises:
        XModalError: for fewer than 16 voxels along an axis.
    """
    check_grid(shape)
    fine_spacing = [mm / FINER for mm in spacing]
    fine, brain = _anatomy(rng, [side * FINER for side in shape], fine_spacing)
    return scanned(rng, fine, brain, fine_spacing, drawn_turn(rng))


def check_grid(shape: Sequence[int]) -> None:
    """Check that a grid has room for a phantom.

    Raises:
        XModalError: for fewer than 16 voxels along an axis.
    """
    if min(shape) < _SMALLEST:
        raise XModalError(f"a phantom needs {_SMALLEST} voxels along every axis, and {list(shape)} are fewer.")


def drawn_turn(rng: np.random.Generator) -> np.ndarray:
    """Draw direction cosines `(3, 3)` of a head that is turned by up to TILT degrees about each axis."""
    return Rotation.from_euler("ZYX", rng.uniform(-TILT, TILT, 3), degrees=True).as_matrix()


def scanned(
    rng: np.random.Generator, fine: np.ndarray, brain: np.ndarray, fine_spacing: Sequence[float], cosines: np.ndarray
) -> SusceptibilityPhantom:
    """Return what a scanner makes of a map: its field with noise, and both on a grid of voxels FINER times as wide.

    Args:
        fine: `(z, y, x)` in ppm; counted from its mean in the brain afterwards.
        brain: bool, of the same shape.
        fine_spacing: mm along z, y, x.
        cosines: `(3, 3)`, columns are the physical directions of x, y and z.
    """
    fine = np.where(brain, fine - fine[brain].mean(), 0)
    fine, brain = (torch.from_numpy(volume.astype(np.float32))[None, None] for volume in (fine, brain))  # 1 1 z y x
    field = block_means(local_field(fine, brain, fine_spacing, field_direction(cosines)), FINER)
    mask = (block_means(brain, FINER) > 0.5).float()
    noise = torch.Generator().manual_seed(int(rng.integers(2**32)))
    field = with_noise(field, rng.uniform(*NOISE), noise) * mask
    susceptibility = block_means(fine, FINER) * mask
    field, susceptibility, mask = (volume[0, 0].numpy() for volume in (field, susceptibility, mask))
    return SusceptibilityPhantom(field, susceptibility, mask.astype(np.uint8), cosines)


def _anatomy(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Susceptibility in ppm and the brain's mask, both `(z, y, x)`."""
    borders = [np.linspace(-1, 1, side + 1, dtype=np.float32) for side in shape]
    axes = [(edges[1:] + edges[:-1]) / 2 for edges in borders]  # centres of voxels in halves of the grid
    place = np.stack(np.meshgrid(*axes, indexing="ij"))  # 3 z y x
    radii = rng.uniform(0.78, 0.88, 3).astype(np.float32)
    own = (place - rng.uniform(-0.04, 0.04, (3, 1, 1, 1)).astype(np.float32)) / radii[:, None, None, None]
    width = np.array(shape) * radii / 2  # voxels of a radius
    radius = np.sqrt((own**2).sum(0)) + 0.03 * smooth_noise(rng, shape, width * 0.25)
    brain = radius < 1

    def drawn(ppm: float) -> float:
        return ppm * (1 + _SPREAD * rng.standard_normal())

    chi = np.full(shape, drawn(_WHITE), np.float32)
    folds = 0.05 * smooth_noise(rng, shape, width * 0.06)
    chi[radius + folds > 0.84] = drawn(_GREY)
    chi[radius > 0.95] = drawn(_CSF)
    ventricle = drawn(_CSF)
    for side in (-1, 1):
        chi[_ellipsoid(own, (0.22, 0.05 + rng.uniform(-0.04, 0.04), 0.07 * side), (0.14, 0.36, 0.06))] = ventricle
    for ppm, centre, size in _NUCLEI.values():
        value = drawn(ppm)
        moved, grown = np.array(centre) + rng.uniform(-0.02, 0.02, 3), np.array(size) * rng.uniform(0.85, 1.15, 3)
        for side in (-1, 1):
            chi[_ellipsoid(own, moved * (1, 1, side), grown)] = value
    chi += _TEXTURE * smooth_noise(rng, shape, width * 0.03)
    chi = gaussian_filter(chi, 0.6)  # tissues do not end between two voxels; veins do
    chi[_veins(rng, own, width, spacing)] = drawn(_VEIN)
    return chi, brain


def _ellipsoid(
    own: np.ndarray, centre: Sequence[float] | np.ndarray, radii: Sequence[float] | np.ndarray
) -> np.ndarray:
    offset = [((along - middle) / radius) ** 2 for along, middle, radius in zip(own, centre, radii)]
    return sum(offset) < 1


def _veins(rng: np.random.Generator, own: np.ndarray, width: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Bool `(z, y, x)`: tubes of 0.6 to 1.4 mm radius that wind through the brain, from the ventricles outwards."""
    shape = np.array(own.shape[1:])
    radius_of = np.zeros(shape, np.float32)
    for _ in range(rng.integers(10, 17)):
        start, towards = rng.uniform(-0.25, 0.25, 3), rng.standard_normal(3)
        end = towards / np.linalg.norm(towards) * rng.uniform(0.75, 0.95)
        steps = int(4 * width.max())
        winding = gaussian_filter1d(rng.standard_normal((steps, 3)), steps / 8, axis=0, mode="reflect")
        path = np.linspace(start, end, steps) + 0.06 * winding / winding.std()
        index = np.round((path * width) + shape / 2).astype(int)
        index = index[((index >= 0) & (index < shape)).all(1)]
        radius_of[tuple(index.T)] = rng.uniform(0.6, 1.4)
    distance, nearest = distance_transform_edt(radius_of == 0, sampling=spacing, return_indices=True)
    return distance < radius_of[tuple(nearest)]


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], correlation: np.ndarray) -> np.ndarray:
    """Return smooth noise of mean 0 and standard deviation 1; `correlation` in voxels along every axis."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), correlation, mode="wrap")
    return (noise - noise.mean()) / noise.std()


def write_susceptibility_dataset(
    folder: str | Path,
    n_train: int,
    n_test: int,
    seed: int,
    shape: Sequence[int] = SHAPE,
    spacing: Sequence[float] = SPACING,
    phantom: Callable[..., SusceptibilityPhantom] = susceptibility_phantom,
    prefix: str = "head",
) -> None:
    """Write phantoms in nnU-Net's raw format: the field as channel 0, the target as channel 1, the brain as label.

    Test cases have no target among their images, as at prediction: it lies in `targetsTs`, their mask in `labelsTs`.
    See `raw_dataset.write_raw_dataset`.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset952_SusceptibilityPhantom`.
        seed: of the whole dataset.
        shape, spacing: voxels and mm along z, y, x.
        phantom: makes one of a random stream, shape and spacing.
        prefix: of the cases' names.

    Raises:
        XModalError: as susceptibility_phantom.
    """

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        made = phantom(rng, shape, spacing)
        images, beside = [made.field, made.susceptibility], {}
        if split == "Ts":
            beside["targetsTs"] = images.pop()
        return RawCase(images, made.mask, spacing, made.direction_cosines, beside)

    write_raw_dataset(folder, make, n_train, n_test, seed, prefix, CHANNELS, {"background": 0, "brain": 1})
