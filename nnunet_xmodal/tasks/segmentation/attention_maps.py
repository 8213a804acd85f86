"""Attention maps of whole cases (Fig. 2 of Zhang et al., Cross-Modal Self-Attention Distillation, 2020)."""

from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trusted_names import trainer_called
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.resized import resized
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.native_geometry import in_native_geometry, with_geometry
from nnunet_xmodal.prediction.tiles import padded, tile_weight

StreamLevel = tuple[int, int]
"""Number of the network's encoder from 0, and m of the paper, from 1 (fine) to N (bottleneck)."""


@torch.inference_mode()
def attention_maps(predictor: nnUNetPredictor, image: torch.Tensor) -> dict[StreamLevel, torch.Tensor]:
    """Return the attention of every stream and level over a preprocessed case, float32 on the CPU.

    The softmax of Eq. 1 runs over a tile, so its values depend on the tile's size: they are multiplied by the number
    of positions, and 1 means uniform attention. Tiles are blended with nnU-Net's Gaussian, folds averaged.

    Args:
        predictor: with a loaded model whose network has several streams.
        image: `(C, *spatial)` as the network reads it.

    Returns:
        Per (stream, level) a map `spatial`.

    Raises:
        XModalError: if the network has no streams.
    """
    check_has_attention_maps(predictor)
    trainer = trainer_called(predictor.trainer_name)
    amgb = AttentionMapGenerationBlock(getattr(trainer, "attention_normalisation", "sum"))  # as the model was trained
    image, undo_padding = padded(predictor, image)
    slicers = predictor._internal_get_sliding_window_slicers(image.shape[1:])
    weight_of_tile = tile_weight(predictor, torch.device("cpu"))
    weight = torch.zeros(image.shape[1:])
    for slicer in slicers:
        weight[slicer[1:]] += weight_of_tile
    maps: dict[StreamLevel, torch.Tensor] = {}
    network = unwrapped(predictor.network).to(predictor.device).eval()
    folds = predictor.list_of_parameters or [network.state_dict()]
    for parameters in folds:
        network.load_state_dict(parameters)
        for slicer in slicers:
            tile = image[slicer][None].to(predictor.device)
            for stream, features in enumerate(network.encoder.stream_features(tile)):
                for level, level_features in enumerate(features, start=1):
                    relative = _relative_attention(amgb(level_features), tile.shape[2:]).cpu()
                    total = maps.setdefault((stream, level), torch.zeros(image.shape[1:]))
                    total[slicer[1:]] += relative * weight_of_tile
    return {key: (total / weight / len(folds))[undo_padding[1:]] for key, total in maps.items()}


def check_has_attention_maps(predictor: nnUNetPredictor) -> None:
    """Check that the loaded network has attention maps.

    Raises:
        XModalError: if the loaded network has no streams.
    """
    if not hasattr(getattr(unwrapped(predictor.network), "encoder", None), "stream_features"):
        raise XModalError(
            f"the network of {predictor.trainer_name} has no attention maps; networks of this package with encoders "
            "have them, for example nnUNetTrainerMultiStream's and nnUNetTrainerCSAD's."
        )


def _relative_attention(log_map: torch.Tensor, size: torch.Size) -> torch.Tensor:
    """Attention times its number of positions, on the tile's grid: `(1, *spatial)` → `size`."""
    relative = log_map.exp() * log_map[0].numel()
    return resized(relative[None], size)[0, 0]


def write_attention_maps(
    maps: dict[StreamLevel, torch.Tensor], predictor: nnUNetPredictor, properties: dict, folder: Path, case: str
) -> list[Path]:
    """Write `<case>_stream<k>_level<m>.nii.gz` for every map, with origin, spacing and direction of the case."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (stream, level), volume in maps.items():
        image = with_geometry(map_on_case(volume, predictor, properties), properties)
        path = folder / f"{case}_stream{stream}_level{level}.nii.gz"
        write_volume(image, path)
        written.append(path)
    return written


def map_on_case(volume: torch.Tensor, predictor: nnUNetPredictor, properties: dict) -> np.ndarray:
    """Return a map `spatial` of a preprocessed case on the grid that it was read on, float32; 0 beyond its crop."""
    configuration = predictor.configuration_manager
    resample = configuration.resampling_fn_probabilities
    return in_native_geometry(volume[None].numpy(), properties, predictor.plans_manager, configuration, resample)[0]
