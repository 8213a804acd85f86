"""Parts of nnU-Net's augmentation, to leave some of it out."""

from collections.abc import Collection, Sequence
from typing import TypeAlias

from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform

CHANGE_INTENSITIES = (
    GaussianNoiseTransform,
    GaussianBlurTransform,
    MultiplicativeBrightnessTransform,
    ContrastTransform,
    SimulateLowResolutionTransform,
    GammaTransform,
)
"""Those that change intensities; the others move voxels."""


AugmentationSettings: TypeAlias = tuple[tuple[float, float] | None, bool, Sequence[int], tuple[int, ...] | None]
"""What nnU-Net's `configure_rotation_dummyDA_mirroring_and_inital_patch_size` returns: range of rotations in radians,
whether 3d patches are augmented slice by slice, size of the patches that are loaded, mirrored axes."""


def without(transforms: ComposeTransforms, kinds: Collection[type[BasicTransform]]) -> list[BasicTransform]:
    """Return nnU-Net's transforms without those of some kinds, whether or not they are applied at random."""
    return [transform for transform in transforms.transforms if not isinstance(_inner(transform), tuple(kinds))]


def _inner(transform: BasicTransform) -> BasicTransform:
    return transform.transform if isinstance(transform, RandomTransform) else transform
