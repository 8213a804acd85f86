"""What benchmarks/experiments tell of registrations: shares of warnings, and errors of bent images."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

EXPERIMENTS = Path(__file__).parents[3] / "benchmarks" / "experiments"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)


def ball():
    """A case on a grid of 10×12×14 voxels of 4, 3, 2 mm; its moving image reaches 5 voxels farther."""
    spacing = torch.tensor([4.0, 3.0, 2.0], dtype=torch.float64)
    label = torch.zeros(1, 10, 12, 14)
    label[:, 3:7, 3:9, 3:11] = 1
    moving = torch.from_numpy(np.indices((20, 22, 24))[2].astype(np.float32))[None]  # its own position along x
    return SimpleNamespace(spacing=spacing, label=label, moving=moving)


def test_warnings_are_counted_among_good_results_failures_and_other_cases():
    from registration_as_predicted import of_thresholds

    lines = [
        ("within", 1.0, 2.2, 0.0),
        ("within", 4.0, 1.0, 0.0),
        ("beyond", 4.0, 1.0, 30.0),  # right, but far away: warned for that at every threshold
        ("beyond", 9.0, 2.7, 0.0),
        ("beyond", 9.0, 0.5, 25.0),
        ("other case", np.nan, 3.5, 0.0),
    ]
    table = pd.DataFrame(lines, columns=["kind", "after", "disagreement", "moved"])
    shares = of_thresholds(table, 5.0)
    assert list(shares) == ["within 5 mm (3)", "beyond 5 mm (2)", "another case (1)"]
    assert shares.loc[2.0].tolist() == [66.7, 100, 100]
    assert shares.loc[2.5].tolist() == [33.3, 100, 100]
    assert shares.loc[np.inf].tolist() == [33.3, 50, 0]


def test_a_bent_image_is_read_where_the_field_says_and_as_far_as_was_asked():
    from deformable_refinement import Bending

    case = ball()
    bending = Bending(case, "anna", 4.0)
    voxel = (8, 11, 13)
    centred = (np.array(voxel) - (np.array(case.moving.shape[1:]) - 1) / 2) * case.spacing.numpy()
    (displacement,) = bending.at(centred[None, ::-1])  # x, y, z
    assert displacement == pytest.approx(bending.field[(slice(None), *voxel)])
    assert bending.bent(case.moving)[(0, *voxel)].item() == pytest.approx(13 + displacement[0] / 2, abs=1e-3)
    organ = bending.field[:, 5:15, 5:17, 5:19][:, case.label[0].numpy() > 0]
    assert (organ**2).sum(0).mean() ** 0.5 == pytest.approx(4)
    assert np.array_equal(Bending(case, "anna", 0.0).bent(case.moving), case.moving)
