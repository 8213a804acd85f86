"""The grid of a registration network: two images that lie anywhere, on one grid, preprocessed by nnU-Net."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.files.labels import organ_values
from nnunet_xmodal.files.whole_labels import rounded_labels
from nnunet_xmodal.geometry.grid_chain import GridChain
from nnunet_xmodal.tasks.registration.surroundings import voxels_around

OUTSIDE = 0.0
"""What the moving image has beyond its border. In training, too, warped images and grids that reach beyond a case are
filled with it; repeating the border instead would paint streaks that no network has seen."""


@dataclass(frozen=True)
class RegistrationGrid:
    """Two images on one grid, as a registration network reads them.

    Attributes:
        fixed: float32 `(D, H, W)`.
        moving: on the grid and its surroundings, as far as the fixed image reaches, float32 `(D', H', W')`.
        label: float32 `(D, H, W)` of the fixed image, 1 inside of the organ; or None.
        chain: from this grid to physical points.
        shifted: the same images on grids around other centres near by.
    """

    fixed: np.ndarray
    moving: np.ndarray
    label: np.ndarray | None
    chain: GridChain
    shifted: tuple["RegistrationGrid", ...] = ()


@dataclass(frozen=True)
class GridCutter:
    """Preprocessing of two images onto one grid: the moving one is resampled once, then nnU-Net preprocesses both.

    Attributes:
        shifts: of further grids in mm along D, H, W, of which registrations tell how sure they are.
    """

    plans: PlansManager
    configuration: ConfigurationManager
    dataset_json: dict
    shifts: Sequence[Sequence[float]] = ()

    def __call__(
        self,
        fixed: sitk.Image,
        moving: sitk.Image,
        transform: sitk.Transform,
        centre: np.ndarray,
        label: sitk.Image | None = None,
    ) -> RegistrationGrid:
        """Cut the grid around a centre.

        Args:
            fixed, moving: as they are on disk.
            transform: fixed → moving point in mm.
            centre: of the grid, a physical point of the fixed image.
            label: of the fixed image, on any grid.

        Raises:
            XModalError: see `GridChain`.
        """
        images = [fixed, sitk.Resample(moving, fixed, transform, sitk.sitkLinear, OUTSIDE, sitk.sitkFloat32)]
        data = np.stack([sitk.GetArrayFromImage(image).astype(np.float32) for image in images])
        seg = None
        if label is not None:
            onto = sitk.Resample(label, fixed, sitk.Transform(3, sitk.sitkIdentity), sitk.sitkNearestNeighbor, 0.0)
            seg = sitk.GetArrayFromImage(onto).astype(np.int16)[None]
        properties = {
            "spacing": list(fixed.GetSpacing()[::-1]),
            "sitk_stuff": {name: getattr(fixed, f"Get{name.title()}")() for name in ("spacing", "origin", "direction")},
        }
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        data, seg, properties = preprocessor.run_case_npy(
            data, seg, properties, self.plans, self.configuration, self.dataset_json
        )
        chain = GridChain.from_properties(
            properties, self.plans.transpose_forward, data.shape[1:], self.configuration.patch_size
        )
        chain = chain.around(chain.to_preprocessed(centre).tolist())
        data = np.asarray(data, np.float32)

        def cut(at: GridChain, shifted: tuple[RegistrationGrid, ...] = ()) -> RegistrationGrid:
            around = at.enlarged(voxels_around(at.size, at.effective_spacing))
            organ = None if label is None else is_organ(at.cut(seg)[0], self.dataset_json).astype(np.float32)
            return RegistrationGrid(at.cut(data, OUTSIDE)[0], around.cut(data, OUTSIDE)[1], organ, at, shifted)

        return cut(chain, tuple(cut(chain.shifted(mm)) for mm in self.shifts))


def is_organ(label: np.ndarray, dataset_json: dict) -> np.ndarray:
    """Return where a label map holds foreground, as bool: neither background nor what is to be ignored."""
    return np.isin(rounded_labels(label), organ_values(dataset_json))
