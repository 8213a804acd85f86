"""Surface points of an organ and the surface registration error (Song et al., 2021, Sec. 3.1).

    SRE(T) = mean over surface points m of ‖T⁻¹m − T_gt⁻¹m‖

The points m lie in the *fixed* image, on the organ's surface there: T⁻¹m is where the registration looks for m in the
moving image, T_gt⁻¹m where it is. Both are in millimetres from the centre of the grid.

With base = M(p)·T_gt the moving space drops out, because rigid transforms keep distances:

    ‖base⁻¹m − T_gt⁻¹m‖ = ‖T_gt⁻¹·M(p)⁻¹m − T_gt⁻¹m‖ = ‖M(p)⁻¹m − m‖ = ‖m − M(p)m‖

so the SRE of a start is mean ‖M(p)m − m‖, whatever T_gt is, and that of aligned training data (T_gt = 1) after a
registration is mean ‖Tm − m‖.
"""

from collections.abc import Sequence

import numpy as np
import torch

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.geometry import rigid_transform


def surface_points(label: torch.Tensor | np.ndarray, spacing: Sequence[float]) -> torch.Tensor:
    """Return the centres of the organ's voxels that have one of their six neighbours outside of it, or of the array.

    Args:
        label: bool `(D, H, W)`, on any device.
        spacing: in mm along these axes.

    Returns:
        float64 `(N, 3)`: x, y, z in mm from the centre of the array.

    Raises:
        XModalError: for a label without a voxel.
    """
    label = torch.as_tensor(np.ascontiguousarray(label) if isinstance(label, np.ndarray) else label)
    inside = torch.nn.functional.pad(label.bool(), (1,) * 6)  # outside of the array is outside of the organ
    core = label.bool()
    for axis, side in enumerate(label.shape):
        for start in (0, 2):
            others = [slice(1, -1)] * 3
            others[axis] = slice(start, start + side)
            core = core & inside[tuple(others)]
    indices = (label.bool() & ~core).nonzero()  # N 3, z y x
    if not len(indices):
        raise XModalError(
            f"the label on the grid {list(label.shape)} is empty, so there is no surface to measure an error on: look "
            "at the case's label, and whether the grid was cut around it."
        )
    centre = (torch.tensor(label.shape, device=label.device, dtype=torch.float64) - 1) / 2
    millimetres = (indices - centre) * torch.as_tensor(spacing, dtype=torch.float64, device=label.device)
    return millimetres.flip(-1)  # N 3, x y z


def padded(points: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad surfaces of several cases: B × `(N_b, 3)` → `(B, N, 3)` and bool `(B, N)`, true where one exists."""
    batch = torch.nn.utils.rnn.pad_sequence(list(points), batch_first=True)  # B N 3
    counts = torch.tensor([len(case) for case in points], device=batch.device)
    return batch, torch.arange(batch.shape[1], device=batch.device) < counts[:, None]


def displacements(matrix: torch.Tensor, points: torch.Tensor, truth: torch.Tensor | None = None) -> torch.Tensor:
    """Return T⁻¹m − T_gt⁻¹m of every point, `(…, N, 3)` in mm; arguments as those of `sre`."""
    found = rigid_transform.apply(rigid_transform.inverse(matrix), points)
    sought = points if truth is None else rigid_transform.apply(rigid_transform.inverse(truth), points)
    return found - sought


def sre(
    matrix: torch.Tensor,
    points: torch.Tensor,
    exists: torch.Tensor | None = None,
    truth: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the mean ‖T⁻¹m − T_gt⁻¹m‖ in mm.

    Args:
        matrix: T, `(…, 4, 4)`.
        points: m, `(…, N, 3)` in mm.
        exists: bool `(…, N)` of padded surfaces; all of them if None.
        truth: T_gt, `(…, 4, 4)`; the identity if None, as in aligned data.

    Returns:
        `(…)`.
    """
    distances = displacements(matrix, points, truth).norm(dim=-1)  # … N
    if exists is None:
        return distances.mean(-1)
    return (distances * exists).sum(-1) / exists.sum(-1)
