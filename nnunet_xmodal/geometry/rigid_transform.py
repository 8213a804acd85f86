"""Rigid transforms as six numbers and as 4×4 matrices (Song et al., Cross-modal Attention for …, 2021, Sec. 2.3).

Six parameters `(tx, ty, tz, ax, ay, az)`, translations in millimetres and rotations in degrees, are the matrix

    M(p) = [ R  t ]      R = Rz(az) · Ry(ay) · Rx(ax)
           [ 0  1 ]

which acts on columns (x, y, z, 1). Coordinates are millimetres from the centre of the grid, so rotations are about it;
x runs along the last axis of an array. (The paper's own code rotates about the volume's corner, where a degree moves
the organ by millimetres and rotation and translation are hard to tell apart.)

A transform T maps points of the moving image onto the fixed one. What *resamples* the moving image onto the fixed grid
asks for the point to read, which is T⁻¹, see `geometry.warp`.

**What a network learns.** Moved away from the truth T_gt by a perturbation p, the start is base = M(p)·T_gt. The target
is `parameters(inverse(matrix(p)))`, which is not −p:

    M(target)·base = M(p)⁻¹·M(p)·T_gt = T_gt

so `matrix(output) @ base` is the registration, and the same again for a second stage.

Every function is batched over leading dimensions, differentiable, and runs in the dtype and on the device of its input.
"""

import torch


def matrix(parameters: torch.Tensor) -> torch.Tensor:
    """Return M(p): `(…, 6)` in mm and degrees → `(…, 4, 4)`."""
    sx, sy, sz = torch.deg2rad(parameters[..., 3:]).sin().unbind(-1)
    cx, cy, cz = torch.deg2rad(parameters[..., 3:]).cos().unbind(-1)
    rows = (
        (cz * cy, cz * sy * sx - sz * cx, cz * sy * cx + sz * sx),
        (sz * cy, sz * sy * sx + cz * cx, sz * sy * cx - cz * sx),
        (-sy, cy * sx, cy * cx),
    )
    rotation = torch.stack([torch.stack(row, -1) for row in rows], -2)  # … 3 3
    return from_parts(rotation, parameters[..., :3])


def parameters(matrix: torch.Tensor) -> torch.Tensor:
    """Undo `matrix`: `(…, 4, 4)` → `(…, 6)` in mm and degrees, with |a_y| ≤ 90° and the others in ±180°.

    Exact for |a_y| < 90°. At ±90° only a_x ∓ a_z is determined: then a_z is what is left of it in the matrix, 0 if
    nothing, and a_x is measured behind it, so that the matrix is given back everywhere.
    """
    r = matrix[..., :3, :3]
    locked = (r[..., 0, 0] == 0) & (r[..., 1, 0] == 0)
    az = torch.atan2(r[..., 1, 0], torch.where(locked, 1, r[..., 0, 0]))  # atan2(0, 0) has no gradient
    sz, cz = az.sin(), az.cos()
    ay = torch.atan2(-r[..., 2, 0], cz * r[..., 0, 0] + sz * r[..., 1, 0])
    # from Rz⁻¹·R = Ry·Rx, whose middle row is (0, cos ax, −sin ax) for any ay
    ax = torch.atan2(sz * r[..., 0, 2] - cz * r[..., 1, 2], cz * r[..., 1, 1] - sz * r[..., 0, 1])
    return torch.cat((matrix[..., :3, 3], torch.rad2deg(torch.stack((ax, ay, az), -1))), -1)


def from_parts(rotation: torch.Tensor, translation: torch.Tensor) -> torch.Tensor:
    """Join rotation and translation: `(…, 3, 3)` and `(…, 3)` in mm → `(…, 4, 4)`."""
    upper = torch.cat((rotation, translation[..., None]), -1)  # … 3 4
    last = upper.new_tensor((0.0, 0.0, 0.0, 1.0)).expand(*upper.shape[:-2], 1, 4)
    return torch.cat((upper, last), -2)


def inverse(matrix: torch.Tensor) -> torch.Tensor:
    """Return T⁻¹ = [Rᵀ, −Rᵀt] of rigid transforms, `(…, 4, 4)`."""
    transposed = matrix[..., :3, :3].mT
    return from_parts(transposed, -(transposed @ matrix[..., :3, 3, None]).squeeze(-1))


def apply(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Return T m of every point: `(…, 4, 4)`, `(…, N, 3)` in mm → `(…, N, 3)`."""
    return points @ matrix[..., :3, :3].mT + matrix[..., None, :3, 3]


def about(matrix: torch.Tensor, centre: torch.Tensor) -> torch.Tensor:
    """Return the same transform in coordinates whose origin is `centre`: `(…, 4, 4)`, `(…, 3)` in mm → `(…, 4, 4)`.

    With x' = x − c it is x' ↦ T(x' + c) − c; `about(about(T, c), −c)` is T.
    """
    translation = apply(matrix, centre[..., None, :]).squeeze(-2) - centre
    return from_parts(matrix[..., :3, :3].expand(*translation.shape, 3), translation)


def mean_se3(matrices: torch.Tensor) -> torch.Tensor:
    """Average an ensemble, `(K, …, 4, 4)` → `(…, 4, 4)`; not its angles, which wrap and depend on their order.

    The rotation is the one nearest to all in the sum of squared Frobenius norms (the chordal mean, Hartley et al.,
    Rotation Averaging, 2013, Sec. 4): UVᵀ of the singular vectors of the sum, with determinant 1; for two rotations
    that is half the way between them. The translation is the mean of what happens to the origin, which is the centre
    of the grid: the average about another point has another translation.
    """
    mean = matrices.mean(0)
    u, _, vh = torch.linalg.svd(mean[..., :3, :3])
    sign = torch.ones_like(mean[..., :3, 0])
    sign[..., 2] = torch.linalg.det(u @ vh).sign()
    return from_parts((u * sign[..., None, :]) @ vh, mean[..., :3, 3])


def rotation_angle(matrix: torch.Tensor) -> torch.Tensor:
    """Return by how many degrees it turns, in [0, 180]: `(…, 4, 4)` → `(…)`."""
    r = matrix[..., :3, :3]
    axis = torch.stack((r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]), -1)
    trace = r.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.atan2(axis.norm(dim=-1), trace - 1))  # 2 sin and 2 cos: exact near 0 and 180
