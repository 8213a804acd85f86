"""Heat maps of the attention blocks, by Grad-CAM."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from registration_pairs import ANSWER, CENTRE, GRID, OBLIQUE, fixed_of, moving_of

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.attention_reg import AttentionReg
from nnunet_xmodal.networks.blocks.cross_modal_attention import CrossModalAttention
from nnunet_xmodal.tasks.registration.grad_cam import attention_heat, on_image
from nnunet_xmodal.tasks.registration.surroundings import amid


def test_heat_maps_of_the_attention_blocks(make_predictor, run, write, tmp_path):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    torch.manual_seed(3)
    network = AttentionReg(GRID, CrossModalAttention).eval()
    fixed = fixed_of(OBLIQUE)
    write(fixed, moving_of(np.eye(4)))
    run(make_predictor(network=network), "--grad_cam")
    for side in ("fixed", "moving"):
        heat = sitk.ReadImage(str(tmp_path / "out" / f"anna_gradcam_{side}.nii.gz"))
        assert heat.GetSize() == fixed.GetSize()
        np.testing.assert_allclose(heat.GetDirection(), fixed.GetDirection(), atol=1e-6)
        array = sitk.GetArrayFromImage(heat)
        assert np.isfinite(array).all() and array.min() >= 0 and 0.3 < array.max() <= 1
        # the grid begins at 3, 4, 8, and a position reaches half a stride beyond
        assert not array[:2].any() and not array[:, :2].any() and not array[:, :, :6].any()


def test_a_heat_map_is_the_sum_of_channels_weighted_by_their_mean_gradients(make_predictor):
    pytest.importorskip("captum", reason="captum is not installed: pip install captum")
    network = AttentionReg(GRID, CrossModalAttention).eval()
    step = make_predictor(network=network).as_step()
    grid = step.cut(fixed_of(), moving_of(np.eye(4)), sitk.Euler3DTransform(), CENTRE)
    kept = []
    hook = network.moving_attention.register_forward_hook(lambda module, inputs, output: kept.append(output))
    both = torch.from_numpy(np.stack((grid.fixed, amid(grid.moving, GRID))))[None]
    length = network((both - both.min()) / (both.max() - both.min())).norm()
    hook.remove()
    (features,) = kept  # 1 32 d h w
    weights = torch.autograd.grad(length, features)[0].mean((2, 3, 4), keepdim=True)
    expected = (weights * features).sum(1)[0].abs().detach()
    found = attention_heat(step, grid)["moving"]
    np.testing.assert_allclose(found, expected / expected.max(), atol=1e-3)


def test_without_captum_a_sentence_names_the_extra(make_predictor, run, write, tmp_path, monkeypatch):
    write(fixed_of(), moving_of(np.eye(4)))
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(XModalError, match=r"--grad_cam needs Captum: pip install .*\[gradcam\]"):
        run(make_predictor(ANSWER), "--grad_cam")
    assert not (tmp_path / "out").exists()


def test_a_position_of_the_features_is_shown_where_its_voxel_lies(make_predictor):
    predictor = make_predictor(ANSWER)
    fixed = fixed_of(OBLIQUE)
    grid = predictor.as_step().cut(fixed, moving_of(np.eye(4)), sitk.Euler3DTransform(), CENTRE)
    heat = np.zeros((6, 7, 6), np.float32)
    heat[2, 3, 4] = 1
    array = sitk.GetArrayFromImage(on_image(heat, grid.chain, fixed))
    expected = np.add(grid.chain.start, (2 * 2, 4 * 3, 4 * 4))
    assert np.unravel_index(array.argmax(), array.shape) == tuple(expected) and array.max() == pytest.approx(
        1, abs=1e-3
    )
