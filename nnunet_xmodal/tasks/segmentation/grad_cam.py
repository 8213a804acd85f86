"""Grad-CAM of a segmentation (Selvaraju et al., ICCV 2017; for segmentation Vinogradova et al., AAAI 2020), by Captum.

The number that is explained is the sum of a label's logits over the voxels that a tile's prediction gives to it; every
channel of a stage's features is weighted by the mean gradient of that number, and what speaks for the label is kept
(ReLU). Tiles are blended with nnU-Net's Gaussian and folds averaged, without mirroring; the map of a case has the
maximum 1.
"""

from collections.abc import Sequence

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunet_xmodal.networks.blocks.resized import resized
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.attributions import captum_attr
from nnunet_xmodal.prediction.tiles import padded, tile_weight


def grad_cam(
    predictor: nnUNetPredictor, image: torch.Tensor, heads: Sequence[int], layer_names: Sequence[str]
) -> dict[tuple[int, str], torch.Tensor]:
    """Return Grad-CAM of some heads of a segmentation network at some of its layers, over a preprocessed case.

    Args:
        predictor: with a loaded model.
        image: `(C, *spatial)` as the network reads it.
        heads: channels of the logits.
        layer_names: dotted names of modules, each with one output `(B, features, *positions)`.

    Returns:
        Per (head, layer) a map `spatial`, float32 on the CPU, from 0 to 1; 0 everywhere where nothing is predicted.
    """
    image, undo_padding = padded(predictor, image)
    slicers = predictor._internal_get_sliding_window_slicers(image.shape[1:])
    weight_of_tile = tile_weight(predictor, torch.device("cpu"))
    weight = torch.zeros(image.shape[1:])
    network = unwrapped(predictor.network).to(predictor.device).eval()
    maps = {(head, name): torch.zeros(image.shape[1:]) for head in heads for name in layer_names}
    folds = predictor.list_of_parameters or [network.state_dict()]
    for parameters in folds:
        network.load_state_dict(parameters)
        for slicer in slicers:
            tile = image[slicer][None].to(predictor.device, torch.float32)
            weight[slicer[1:]] += weight_of_tile
            for (head, name), total in maps.items():
                seen = _of_tile(network, tile, head, name, predictor.label_manager.has_regions)
                total[slicer[1:]] += seen.cpu() * weight_of_tile
    found = {key: (total / weight)[undo_padding[1:]] for key, total in maps.items()}
    return {key: total / total.amax().clamp_min(1e-12) for key, total in found.items()}


def _of_tile(network: nn.Module, tile: torch.Tensor, head: int, layer_name: str, regions: bool) -> torch.Tensor:
    """One label at one layer, on the tile's grid: `(1, C, *patch)` → `patch`."""
    attr = captum_attr("--what gradcam")

    def logit_of_predicted_voxels(x: torch.Tensor) -> torch.Tensor:
        logits = network(x)
        predicted = logits[:, head] > 0 if regions else logits.argmax(1) == head
        return (logits[:, head] * predicted).flatten(1).sum(1)

    with torch.enable_grad():
        cam = attr.LayerGradCam(logit_of_predicted_voxels, network.get_submodule(layer_name))
        at_positions = cam.attribute(tile, relu_attributions=True).detach()
    return resized(at_positions, tile.shape[2:])[0, 0]
