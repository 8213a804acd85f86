"""Mattes mutual information (Mattes et al., 2003), maximised over six rigid parameters by SimpleITK."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import SimpleITK as sitk
import torch

from nnunet_xmodal.geometry import rigid_transform
from nnunet_xmodal.geometry.grid_chain import euler_transform, physical_matrix
from nnunet_xmodal.tasks.registration.method import RegistrationMethod, Volume
from nnunet_xmodal.tasks.registration.resolution_levels import factors_of_levels


@dataclass(frozen=True)
class MutualInformation(RegistrationMethod):
    """Registration from coarse to fine, by gradient descent whose steps are measured in millimetres that voxels move.

    Around the moving image lies a margin of its smallest value, background: voxels that leave the image are counted as
    such. They would be left out otherwise, and the less two images overlap the more they seem to have in common.

    The same start gives the same result: samples are drawn with a seed, and threads change sums in their last digits
    alone.

    Attributes:
        bins: of the joint histogram, along each intensity.
        samples: voxels that are read at every step; all of a level that has fewer.
        levels: factors of coarsening.
        iterations: at most, per level.
        step: of the first iteration, mm; it is halved whenever the gradient turns round.
        smallest_step: mm, where a level ends.
        threads: of SimpleITK; all cores if None.
        seed: of the samples.
    """

    bins: int = 32
    samples: int = 10_000
    levels: Sequence[int] = (4, 2, 1)
    iterations: int = 200
    step: float = 1.0
    smallest_step: float = 0.01
    threads: int | None = None
    seed: int = 1

    def find(self, fixed: Volume, moving: Volume, spacing: Sequence[float], base: torch.Tensor) -> torch.Tensor:
        """Return the matrix, found by SimpleITK on the CPU."""
        reads = euler_transform(rigid_transform.inverse(base).numpy(), centre=(0.0, 0.0, 0.0))  # fixed → moving point
        method = self._method(tuple(fixed.shape), spacing)
        method.SetInitialTransform(reads, inPlace=True)
        method.Execute(_image(fixed, spacing), _surrounded(_image(moving, spacing), fixed.shape))
        return rigid_transform.inverse(torch.from_numpy(physical_matrix(reads)))

    def _method(self, shape: Sequence[int], spacing: Sequence[float]) -> sitk.ImageRegistrationMethod:
        method = sitk.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(self.bins)
        method.SetMetricSamplingStrategy(method.RANDOM)
        # SimpleITK has one factor for all axes
        factors = [min(axes) for axes in factors_of_levels(shape, spacing, self.levels)]
        voxels = [prod(side // factor for side in shape) for factor in factors]
        method.SetMetricSamplingPercentagePerLevel([min(1.0, self.samples / count) for count in voxels], self.seed)
        method.SetInterpolator(sitk.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(
            self.step, self.smallest_step, self.iterations, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel(factors)
        method.SetSmoothingSigmasPerLevel([min(spacing) * (level - 1) / 2 for level in self.levels])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
        if self.threads is not None:
            method.SetNumberOfThreads(self.threads)
        return method


def _image(volume: Volume, spacing: Sequence[float]) -> sitk.Image:
    """With the centre of the grid as physical origin, so that its transforms are those of the grid."""
    array = torch.as_tensor(volume).detach().cpu().to(torch.float32).numpy()
    image = sitk.GetImageFromArray(array)
    image.SetSpacing([float(mm) for mm in spacing][::-1])
    image.SetOrigin([-(side - 1) / 2 * mm for side, mm in zip(image.GetSize(), image.GetSpacing())])
    return image


def _surrounded(image: sitk.Image, shape: Sequence[int]) -> sitk.Image:
    margin = [side // 2 for side in shape[::-1]]
    return sitk.ConstantPad(image, margin, margin, float(sitk.GetArrayViewFromImage(image).min()))
