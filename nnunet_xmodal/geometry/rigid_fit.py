"""The rigid transform that lays points on others, weighted and differentiable."""

import torch

from nnunet_xmodal.geometry import rigid_transform

ARM = 20.0
"""mm: rotations are solved for as what they move a point at this distance by, so that all six unknowns are mm."""


def fit_rigid(
    points: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor, ridge: torch.Tensor, steps: int = 3
) -> torch.Tensor:
    """Return the T that minimises Σ w ‖T p − q‖² + Σ ridge·x², x the transform's shift and rotation in mm.

    The ridge draws the result towards the identity where few or doubtful points decide, and keeps the equations
    solvable. By Gauss–Newton steps from the identity: a singular value decomposition (Kabsch, 1976) has no gradient
    where two singular values are alike. Without ridge the steps end at its result.

    Args:
        points: p, `(B, N, 3)` in mm.
        targets: q, likewise.
        weights: w ≥ 0, `(B, N)`.
        ridge: `(6)`, for the shift along x, y, z and the rotation about them, > 0.
        steps: of Gauss–Newton.

    Returns:
        `(B, 4, 4)`.
    """
    batch = len(points)
    place = torch.eye(4, dtype=points.dtype, device=points.device).expand(batch, 4, 4)
    total = points.new_zeros(batch, 6)
    for _ in range(steps):
        moved = rigid_transform.apply(place, points)  # B N 3
        jacobian = torch.cat((torch.eye(3).to(moved).expand(*moved.shape, 3), -_cross(moved / ARM)), -1)  # B N 3 6
        weighted = jacobian * weights[..., None, None]
        normal = torch.einsum("bnij,bnik->bjk", weighted, jacobian) + torch.diag(ridge)
        right = torch.einsum("bnij,bni->bj", weighted, targets - moved) - ridge * total
        step = torch.linalg.solve(normal, right)  # B 6
        total = total + step
        place = _small(step) @ place
    return place


def _cross(v: torch.Tensor) -> torch.Tensor:
    """The matrix of v × …, `(…, 3)` → `(…, 3, 3)`."""
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y), (z, zero, -x), (-y, x, zero)
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _small(step: torch.Tensor) -> torch.Tensor:
    """The rigid transform of a shift and a rotation vector, both in mm, `(B, 6)` → `(B, 4, 4)`."""
    rotation = torch.linalg.matrix_exp(_cross(step[:, 3:] / ARM))
    return rigid_transform.from_parts(rotation, step[:, :3])
