"""Phantoms for few-shot segmentation: abdomens with four labelled organs, as CT and as MR.

In a body with a rim of fat and a wall of muscle lie liver, spleen and both kidneys, with cortex and medulla, and beside
them what nobody labels: spine and muscles, stomach, bowel loops with gas, gall bladder, aorta, caval and liver vessels.
Shapes, places and orientations vary. Intensities alone do not segment: the liver's are the spleen's in a CT and the
muscles' in an MR, the kidneys' those of vessels or of the stomach, all drawn anew for every scan, with texture, a bias
field and noise. The two contrasts order tissues differently: no function of one gives the other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.phantoms.ellipsoids import millimetres_from_centre
from nnunet_xmodal.phantoms.raw_dataset import RawCase, Split, write_raw_dataset

SHAPE = (24, 128, 128)
"""Voxels along z, y, x."""
EXTENT = (216.0, 320.0, 384.0)
"""Millimetres along z, y, x of the whole grid, whatever its number of voxels."""
CONTRASTS = ("ct", "mr")
LABELS = {"background": 0, "liver": 1, "right_kidney": 2, "left_kidney": 3, "spleen": 4}

_SMALLEST = (12, 48, 48)  # below, an organ may have no voxel

_NAMES = (
    "air", "fat", "muscle", "liver", "spleen", "cortex", "medulla", "stomach", "bowel", "gas", "bile", "bone", "marrow",
    "vessel",
)  # fmt: skip
_TISSUE = {name: index for index, name in enumerate(_NAMES)}
_CONTRAST = {  # CT in Hounsfield units, venous phase; MR in arbitrary units, T2-weighted with fat suppression
    "ct": (-1000, -100, 80, 105, 112, 150, 125, 45, 65, -850, 10, 480, 190, 150),
    "mr": (4, 55, 100, 120, 225, 185, 250, 240, 150, 8, 330, 35, 110, 50),
}
_SPREAD = {"ct": 9.0, "mr": 15.0}  # of tissues, from scan to scan
_TEXTURE = {"ct": 6.0, "mr": 9.0}
_NOISE = {"ct": (8.0, 16.0), "mr": (6.0, 12.0)}


class OrganPhantom(NamedTuple):
    """A scan of abdominal organs.

    Attributes:
        image: float32 `(z, y, x)`; CT in Hounsfield units from −1024, MR positive in arbitrary units.
        label: uint8 `(z, y, x)`, see LABELS.
    """

    image: np.ndarray
    label: np.ndarray


def organ_phantom(rng: np.random.Generator, contrast: str = "ct", shape: Sequence[int] = SHAPE) -> OrganPhantom:
    """Make one scan; equal states of `rng` give equal scans, and the same anatomy in both contrasts.

    Right organs are at low x: the patient is seen from the feet, with y to the back and z to the head.

    Args:
        contrast: "ct" or "mr".
        shape: voxels along z, y, x of a grid of EXTENT.

    Raises:
        XModalError: for an unknown contrast and a grid of too few voxels.
    """
    if contrast not in CONTRASTS:
        raise XModalError(f"there is no contrast {contrast!r}: take one of {', '.join(CONTRASTS)}.")
    if any(side < least for side, least in zip(shape, _SMALLEST)):
        raise XModalError(
            f"a phantom of {'×'.join(map(str, shape))} voxels may lose an organ: take at least "
            f"{'×'.join(map(str, _SMALLEST))}."
        )
    spacing = spacing_of(shape)
    mm = millimetres_from_centre(shape, spacing).astype(np.float32)  # 3 z y x
    tissue, label = _anatomy(rng, mm)
    return OrganPhantom(_acquired(rng, tissue, contrast, spacing), label)


def spacing_of(shape: Sequence[int]) -> tuple[float, ...]:
    """Return the mm along z, y, x of a grid of EXTENT."""
    return tuple(extent / side for extent, side in zip(EXTENT, shape))


class _Scene:
    """Tissues and labels of a scan, painted one over the other in coordinates of the patient."""

    def __init__(self, rng: np.random.Generator, mm: np.ndarray) -> None:
        self.rng = rng
        size = rng.uniform(0.92, 1.06)  # of the whole patient
        turned = Rotation.from_euler("ZYX", rng.uniform(-5, 5, 3), degrees=True).as_matrix()
        offset = rng.uniform(-5, 5, (3, 1, 1, 1))
        self.mm = (np.tensordot(turned, mm - offset, 1) / size).astype(np.float32)
        self.tissue = np.zeros(mm.shape[1:], np.uint8)
        self.label = np.zeros(mm.shape[1:], np.uint8)

    def near(self, *numbers: float, spread: float = 5.0) -> np.ndarray:
        """A place that varies, in mm."""
        return np.array(numbers) + self.rng.uniform(-spread, spread, 3)

    def blob(
        self, centre: np.ndarray, radii: ArrayLike, angles: ArrayLike = (0, 0, 0), bumps: float = 0.05
    ) -> np.ndarray:
        """Relative radius, 1 on the surface of a turned ellipsoid with random dents and bumps."""
        axes = np.asarray(radii) * self.rng.uniform(0.88, 1.12, 3)
        turned = Rotation.from_euler("ZYX", np.asarray(angles) + self.rng.uniform(-8, 8, 3), degrees=True).as_matrix()
        own = np.tensordot(turned.astype(np.float32), self.mm - centre[:, None, None, None].astype(np.float32), 1)
        scaled = own / axes[:, None, None, None]
        radius = np.sqrt((scaled**2).sum(0)) + 1e-6
        surface = (radius > 0.5) & (radius < 1.5)  # elsewhere bumps decide nothing
        directions = scaled[:, surface] / radius[surface]
        relief = np.zeros(directions.shape[1])
        for _ in range(4):
            relief += bumps * np.cos(self.rng.normal(scale=2.0, size=3) @ directions + self.rng.uniform(0, 2 * np.pi))
        radius[surface] /= 1 + relief
        return radius

    def tube(self, centre: Sequence[float], radius: float, bend: float) -> np.ndarray:
        """Mask along z, bent sidewards by up to `bend` mm."""
        phase = self.rng.uniform(0, 2 * np.pi, 2)
        y = self.mm[1] - centre[0] - bend * np.sin(self.mm[0] / 60 + phase[0])
        x = self.mm[2] - centre[1] - bend * np.sin(self.mm[0] / 60 + phase[1])
        return np.hypot(y, x) < radius

    def paint(self, mask: np.ndarray, tissue: str, label: str | None = None) -> None:
        """An organ of the label; without one it takes away what was labelled there."""
        self.tissue[mask] = _TISSUE[tissue]
        self.label[mask] = LABELS[label] if label else 0


def _anatomy(rng: np.random.Generator, mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the tissue at every voxel, and the labels."""
    scene = _Scene(rng, mm)
    flat = scene.mm * np.array((0.02, 1, 1), np.float32)[:, None, None, None]  # the trunk goes on beyond the scan
    rim, wall = rng.uniform(9, 24), rng.uniform(9, 14)
    trunk = np.array((1000.0, rng.uniform(104, 112), rng.uniform(146, 158)))
    inside = {}
    for name, less in (("skin", 0.0), ("wall", rim), ("cavity", rim + wall)):
        radii = trunk - less
        inside[name] = np.sqrt(((flat / radii[:, None, None, None]) ** 2).sum(0)) < 1
    for mask, tissue in zip(inside.values(), ("fat", "muscle", "fat")):
        scene.paint(mask, tissue)
    cavity = inside["cavity"]
    _bowel(scene, cavity)
    _stomach(scene, cavity)
    _liver(scene, cavity)
    _spleen(scene, cavity)
    for side, name in ((-1, "right_kidney"), (1, "left_kidney")):
        _kidney(scene, cavity, side, name)
    _spine(scene, inside["wall"])
    return scene.tissue, scene.label


def _bowel(scene: _Scene, cavity: np.ndarray) -> None:
    for _ in range(int(scene.rng.integers(14, 22))):
        place = np.array((scene.rng.uniform(-105, 0), scene.rng.uniform(-70, 15), scene.rng.uniform(-95, 95)))
        loop = scene.blob(place, (22, 15, 18), scene.rng.uniform(-60, 60, 3), 0.1)
        scene.paint((loop < 1) & cavity, "muscle")
        scene.paint((loop < 0.85) & cavity, "bowel" if scene.rng.random() < 0.7 else "stomach")
        if scene.rng.random() < 0.4:
            scene.paint((loop < 0.8) & (scene.mm[1] < place[1] - 3) & cavity, "gas")


def _stomach(scene: _Scene, cavity: np.ndarray) -> None:
    place = scene.near(48, -38, 42, spread=9)
    stomach = scene.blob(place, (38, 30, 44), (0, 0, 25), 0.08)
    scene.paint((stomach < 1) & cavity, "muscle")
    scene.paint((stomach < 0.9) & cavity, "stomach")
    scene.paint((stomach < 0.85) & (scene.mm[1] < place[1] - scene.rng.uniform(2, 16)) & cavity, "gas")


def _liver(scene: _Scene, cavity: np.ndarray) -> None:
    right = scene.blob(scene.near(42, -8, -66, spread=7), (66, 66, 58), (0, 10, 0), 0.06)
    left = scene.blob(scene.near(58, -40, -8, spread=7), (32, 30, 52), (0, 0, -15), 0.06)
    liver = ((right < 1) | (left < 1)) & cavity
    scene.paint(liver, "liver", "liver")
    for _ in range(int(scene.rng.integers(3, 6))):  # its vessels belong to it
        start, end = scene.near(35, -5, -35, spread=8), scene.near(45, -15, -70, spread=45)
        along = (end - start) / np.linalg.norm(end - start)
        offset = scene.mm - start[:, None, None, None].astype(np.float32)
        position = np.tensordot(along.astype(np.float32), offset, 1)
        distance = np.sqrt(np.maximum((offset**2).sum(0) - position**2, 0))
        vessel = (distance < scene.rng.uniform(2.5, 5)) & (position > 0) & (position < np.linalg.norm(end - start))
        scene.paint(vessel & liver, "vessel", "liver")
    gall_bladder = scene.blob(scene.near(5, -42, -48, spread=8), (19, 13, 12), (30, 0, 0))
    scene.paint((gall_bladder < 1) & cavity, "bile")


def _spleen(scene: _Scene, cavity: np.ndarray) -> None:
    spleen = scene.blob(scene.near(44, 28, 94, spread=7), (44, 34, 21), (15, 0, -25), 0.07)
    hilum = scene.blob(scene.near(44, 18, 66, spread=5), (30, 22, 16), bumps=0.0)
    scene.paint((spleen < 1) & (hilum >= 1) & cavity, "spleen", "spleen")


def _kidney(scene: _Scene, cavity: np.ndarray, side: int, name: str) -> None:
    place = scene.near(-22 + 10 * (side > 0), 44, side * 62, spread=6)
    angles = np.array((8.0 * side, 0, 12.0 * side))
    fat = scene.blob(place, (62, 38, 36), angles)
    scene.paint((fat < 1) & cavity & (scene.label == 0), "fat")
    kidney = scene.blob(place, (50, 26, 25), angles, 0.03)
    sinus = scene.blob(place - (0, 4, side * 16), (22, 10, 15), bumps=0.02) < 1
    whole = (kidney < 1) & cavity
    scene.paint(whole, "cortex", name)
    scene.paint(whole & (kidney < 0.68), "medulla", name)
    scene.paint(whole & sinus, "fat")


def _spine(scene: _Scene, wall: np.ndarray) -> None:
    y = 62 + scene.rng.uniform(-4, 4)
    for side in (-1, 1):
        scene.paint(scene.tube((y - 2, 34 * side), scene.rng.uniform(14, 18), 2) & wall, "muscle")  # psoas
        scene.paint(scene.tube((y + 26, 26 * side), scene.rng.uniform(14, 18), 2) & wall, "muscle")
    vertebrae = scene.tube((y, 0), scene.rng.uniform(18, 22), 2)
    scene.paint(vertebrae, "bone")
    height, phase = scene.rng.uniform(30, 36), scene.rng.uniform(0, 30)
    disc = np.mod(scene.mm[0] + phase, height) < 7
    scene.paint(vertebrae & ~disc & scene.tube((y, 0), 16, 2), "marrow")
    scene.paint(vertebrae & disc, "muscle")
    scene.paint(scene.tube((y - 30, 8), scene.rng.uniform(8, 11), 3), "vessel")  # aorta
    scene.paint(scene.tube((y - 30, -18), scene.rng.uniform(9, 12), 3), "vessel")  # inferior vena cava


def _acquired(rng: np.random.Generator, tissue: np.ndarray, contrast: str, spacing: Sequence[float]) -> np.ndarray:
    means = np.array(_CONTRAST[contrast], float)
    body = ~np.isin(np.arange(len(means)), (_TISSUE["air"], _TISSUE["gas"]))
    means = means + body * rng.normal(scale=_SPREAD[contrast], size=len(means))
    texture = _TEXTURE[contrast] * _smooth_noise(rng, tissue.shape, spacing, 5.0) * body[tissue]
    image = gaussian_filter(means[tissue] + texture, 1.2 / np.array(spacing))
    if contrast == "ct":
        noise = gaussian_filter(rng.normal(size=tissue.shape), (0, 0.7, 0.7))
        image = image + rng.uniform(*_NOISE["ct"]) * noise / noise.std()
        return np.maximum(image, -1024).astype(np.float32)
    bias = np.exp(rng.uniform(0.1, 0.2) * _smooth_noise(rng, tissue.shape, spacing, 110.0))
    noise = rng.uniform(*_NOISE["mr"]) * rng.normal(size=(2, *tissue.shape))
    gain = rng.uniform(0.7, 1.4)
    return (gain * np.hypot(np.maximum(image, 0) * bias + noise[0], noise[1]) + 1).astype(np.float32)  # Rician


def _smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], length: float
) -> np.ndarray:
    """Of mean 0 and standard deviation 1, over about `length` mm; drawn on a grid no finer than needed."""
    coarse = [max(4, min(side, round(side * mm / length * 2) + 2)) for side, mm in zip(shape, spacing)]
    noise = gaussian_filter(rng.normal(size=coarse), 1.0)
    noise = zoom(noise, np.divide(shape, coarse), order=1, mode="nearest", grid_mode=True)
    return (noise - noise.mean()) / noise.std()


def write_organ_dataset(
    folder: str | Path,
    cases: int = 20,
    seed: int = 0,
    contrast: str = "ct",
    shape: Sequence[int] = SHAPE,
    test_cases: int = 0,
) -> None:
    """Write scans in nnU-Net's raw format, with `labelsTs` for test cases.

    Every case has a random stream of its own, so that more cases do not change the others, and of the same seed and
    number it is the same patient in both contrasts; dataset.json comes last: where it is, everything else is.

    Args:
        folder: named as nnU-Net wants it, e.g. `Dataset970_OrganPhantomCT`.
        cases, test_cases: how many.
        seed: of the whole dataset.
        contrast: "ct" or "mr"; "both" makes every second case an MR, under one channel name.
        shape: voxels along z, y, x.

    Raises:
        XModalError: as organ_phantom.
    """

    def make(rng: np.random.Generator, split: Split, index: int) -> RawCase:
        chosen = CONTRASTS[index % 2] if contrast == "both" else contrast
        phantom = organ_phantom(rng, chosen, shape)
        return RawCase([phantom.image], phantom.label, spacing_of(phantom.label.shape))

    name = {"ct": "CT", "mr": "T2"}.get(contrast, "CT or MR")
    write_raw_dataset(folder, make, cases, test_cases, seed, "organs", [name], LABELS)
