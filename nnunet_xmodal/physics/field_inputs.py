"""What a network of susceptibility reads beside the field: inversions of the whole head, and where B0 points.

The dipole reaches far: what a patch of 32³ voxels shows of the field has sources outside it. An inversion of the whole
case has that behind it, and leaves to the network what it is good at: to tell tissue from streaks and noise. Several
are given, all of total variation: one whose residual the network learns, one that is less smooth and still has the fine
structure that the first has lost, noise included, and one that is smoother and has hardly any streaks. All are counted
from their mean.

The main field b comes as the six products of its components, constant over the volume: the dipole depends on b by them
alone, b and −b have the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Integral, Real

import numpy as np
import torch
from scipy.ndimage import binary_fill_holes

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.physics.measured_field import FieldGeometry
from nnunet_xmodal.physics.total_variation import ALPHA, ITERATIONS, total_variation


@dataclass(frozen=True)
class FieldInputs:
    """What a model reads; it keeps this in its plans.

    Attributes:
        alphas: α of every inversion in ppm; the network's output is added to the first.
        iterations: of `total_variation`.
        direction: the network reads the main field's direction.
        odd: the network has learnt from fields and their negatives alike, and (net(f) − net(−f))/2 is predicted; the
            trainer's `reversals` say so.
    """

    alphas: tuple[float, ...] = (ALPHA, 0.3 * ALPHA, 3 * ALPHA)
    iterations: int = ITERATIONS
    direction: bool = True
    odd: bool = True

    def __post_init__(self) -> None:
        for value in (*self.alphas, self.iterations):
            if isinstance(value, bool) or not isinstance(value, Real) or not value > 0:
                raise XModalError(f'numbers of "field_inputs" in the plans must be above 0, and one is {value!r}.')
        if not isinstance(self.iterations, Integral):
            raise XModalError(f'"iterations" of "field_inputs" in the plans is no whole number: {self.iterations!r}.')

    @classmethod
    def of_entry(cls, entry: Mapping | None) -> "FieldInputs | None":
        """Read `"field_inputs"` of the plans; None without it, as in models from before there was any.

        Raises:
            XModalError: for what this version does not know.
        """
        if entry is None:
            return None
        try:
            return cls(**{**entry, "alphas": tuple(entry["alphas"])})
        except (TypeError, KeyError) as error:
            raise XModalError(
                f'"field_inputs" of the plans is {entry!r}, which this version of nnunet_xmodal does not know: take '
                "the version that the model was trained with."
            ) from error

    def as_entry(self) -> dict:
        """Return what `of_entry` reads."""
        return {**asdict(self), "alphas": list(self.alphas)}

    @property
    def channels(self) -> int:
        """Return how many channels the network reads beside the files' own."""
        return len(self.alphas) + (6 if self.direction else 0)

    def of_direction(self, direction: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Return the main field as channels, `(B, 3)` → `(B, 6, *size)`; no channel where the model does not see it."""
        if not self.direction:
            return direction.new_zeros((len(direction), 0, *size))
        rows, columns = torch.triu_indices(3, 3, device=direction.device)
        products = direction[:, rows] * direction[:, columns]
        return products.view(len(direction), 6, *[1] * len(size)).expand(-1, -1, *size)

    def of_field(
        self,
        field: np.ndarray | torch.Tensor,
        geometry: FieldGeometry,
        magnitude: np.ndarray | torch.Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> np.ndarray:
        """Invert a field.

        Args:
            field: `(D, H, W)` in ppm, 0 outside the brain.
            geometry: spacing and direction along its axes.
            magnitude: of the field's shape, where it is larger the field is trusted more; None for the same everywhere.

        Returns:
            Float32 `(len(alphas), D, H, W)` in ppm, 0 where the field is not known.
        """
        known = known_voxels(np.asarray(field))
        inside = torch.from_numpy(known).to(device)[None, None]
        values = torch.as_tensor(field, dtype=torch.float32, device=device)[None, None]
        weight = trust(magnitude, inside)
        maps = (total_variation(values, inside, *geometry, alpha, weight, self.iterations) for alpha in self.alphas)
        return np.concatenate([from_mean(each, inside)[0].cpu().numpy() for each in maps])


def trust(magnitude: np.ndarray | torch.Tensor | None, inside: torch.Tensor) -> torch.Tensor:
    """Return the weight W of every voxel's field: its magnitude, as its noise is the inverse; 0 outside.

    Args:
        magnitude: `(D, H, W)`, None for the same everywhere.
        inside: bool `(1, 1, D, H, W)`.

    Returns:
        Float32 of the shape of `inside`, of mean 1 there.
    """
    if magnitude is None:
        return inside.float()
    weight = torch.as_tensor(magnitude, dtype=torch.float32, device=inside.device).abs()[None, None] * inside
    mean = weight.sum() / inside.sum().clamp(min=1)
    return weight / mean if mean > 0 else inside.float()


def known_voxels(field: np.ndarray) -> np.ndarray:
    """Return where a local field is known: where it is not 0, with the holes in it; bool `(D, H, W)`."""
    return np.asarray(binary_fill_holes(field != 0), dtype=bool)


def from_mean(volume: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Count a map from its mean inside, 0 outside: two `(1, 1, D, H, W)` → the same."""
    mean = (volume * inside).sum() / inside.sum().clamp(min=1)
    return (volume - mean) * inside


def magnitude_channel(names: Sequence[str]) -> int | None:
    """Return which input channel is the magnitude, by its name; None without one."""
    lowered = [name.lower() for name in names]
    return lowered.index("magnitude") if "magnitude" in lowered else None
