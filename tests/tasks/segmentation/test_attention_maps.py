from types import SimpleNamespace

import numpy as np
import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.prediction.native_geometry import in_native_geometry
from nnunet_xmodal.tasks.segmentation.attention_maps import attention_maps


class Encoder(nn.Module):
    """One stream of two levels: the input itself, and its 2×2 means."""

    def stream_features(self, x):
        return [[x, nn.functional.avg_pool2d(x, 2)]]


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()


def predictor_of(network, patch_size=(8, 8)) -> nnUNetPredictor:
    predictor = nnUNetPredictor(tile_step_size=0.5, device=torch.device("cpu"), allow_tqdm=False)
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=list(patch_size))
    predictor.trainer_name = "nnUNetTrainer"
    return predictor


@pytest.mark.parametrize("size", [(2, 8, 8), (3, 13, 10), (1, 5, 6)])
def test_uniform_features_get_uniform_attention_whatever_the_tiling(size):
    maps = attention_maps(predictor_of(Network()), torch.ones(3, *size))
    assert set(maps) == {(0, 1), (0, 2)}
    if min(size[1:]) >= 8:  # smaller images are padded by zeros, which get less attention
        for volume in maps.values():
            torch.testing.assert_close(volume, torch.ones(size))
    assert all(volume.shape == size for volume in maps.values())


def test_a_single_tile_is_the_softmax_of_the_squares_times_their_number():
    image = torch.randn(2, 1, 8, 8)
    expected = image.square().sum(0).flatten().softmax(0).view(1, 8, 8) * 64
    torch.testing.assert_close(attention_maps(predictor_of(Network()), image)[0, 1], expected)


def test_a_network_without_streams_is_refused():
    with pytest.raises(XModalError, match="network of nnUNetTrainer has no attention maps"):
        attention_maps(predictor_of(nn.Conv2d(1, 1, 1)), torch.ones(1, 1, 8, 8))


def test_crop_and_transposition_are_undone():
    def unchanged(data, new_shape, current_spacing, new_spacing):
        assert tuple(new_shape) == data.shape[1:]
        return data

    # the preprocessed axes (y, z, x) of an image (z, y, x)
    plans = SimpleNamespace(transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2])
    configuration = SimpleNamespace(spacing=[1.0, 1.0])
    properties = {
        "spacing": [3.0, 1.0, 1.0],
        "shape_before_cropping": (6, 4, 5),
        "bbox_used_for_cropping": [[1, 5], [0, 4], [2, 5]],
        "shape_after_cropping_and_before_resampling": (4, 4, 3),
    }
    volume = torch.rand(4, 4, 3)
    (native,) = in_native_geometry(volume[None].numpy(), properties, plans, configuration, unchanged)
    assert native.shape == (4, 6, 5)
    np.testing.assert_array_equal(native.transpose(1, 0, 2)[1:5, 0:4, 2:5], volume.numpy())
    assert native.sum() == pytest.approx(volume.sum().item())
