import math

import numpy as np
import pytest
import torch

from nnunet_xmodal.evaluation.uncertainty import agreement, entropy


@pytest.mark.parametrize("regions", [False, True])
def test_entropy_voxel_by_voxel(regions):
    logits = torch.randn(3, 4, 5)
    p = logits.sigmoid() if regions else logits.softmax(0)
    p[:, 0, 0] = torch.tensor([0.0, 1.0, 0.0])  # sure, and no NaN
    for position in np.ndindex(4, 5):
        expected = 0.0
        for value in p[(slice(None), *position)].tolist():
            for share in (value, 1 - value) if regions else (value,):
                expected -= share * math.log(share) if share > 0 else 0
        assert entropy(p, regions)[position].item() == pytest.approx(expected, abs=1e-5)
    assert entropy(torch.full((4, 1), 0.25))[0].item() == pytest.approx(math.log(4))


def test_agreement_is_the_mean_dice_over_pairs():
    maps = [np.array([1, 1, 2, 0]), np.array([1, 0, 2, 0]), np.array([1, 1, 0, 0])]
    found = agreement(maps, {"one": (1,), "two": (2,), "both": (1, 2), "nowhere": (3,)})
    assert found["one"] == pytest.approx(np.mean([2 / 3, 1, 2 / 3]))
    assert found["two"] == pytest.approx(np.mean([1, 0, 0]))
    assert found["both"] == pytest.approx(np.mean([4 / 5, 4 / 5, 2 / 4]))
    assert math.isnan(found["nowhere"]) and math.isnan(agreement(maps[:1], {"one": (1,)})["one"])
