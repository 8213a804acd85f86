"""Where a network looked, on the grid of a case: Grad-CAM per label and stage, attention per stream and level."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from nnunet_xmodal.evaluation.detection import probability_channel
from nnunet_xmodal.numerics import unwrapped
from nnunet_xmodal.prediction.tiles import tiles_of
from nnunet_xmodal.tasks.segmentation.attention_maps import attention_maps, map_on_case
from nnunet_xmodal.tasks.segmentation.grad_cam import grad_cam
from nnunet_xmodal.tasks.segmentation.predictor import SegmentationPredictor
from nnunet_xmodal.tasks.segmentation.stages import stages_at, stages_by_level


@dataclass(frozen=True)
class HeatMap:
    """One map.

    Attributes:
        kind: "gradcam" or "attention": its folder, and its figure.
        name: behind the case's in the file's name.
        title: above the panel.
        volume: float32 `(z, y, x)` on the grid that the case was read on.
        channel: number of the image channel that it is drawn on.
        label: whose prediction is outlined; None for everything that is not background.
    """

    kind: str
    name: str
    title: str
    volume: np.ndarray
    channel: int = 0
    label: str | None = None


def grad_cam_heat(
    predictor: SegmentationPredictor,
    image: torch.Tensor,
    properties: dict,
    labels: Iterable[str],
    levels: Sequence[int],
) -> list[HeatMap]:
    """Return Grad-CAM of every label at every stage of some levels, see `grad_cam`.

    Args:
        image: `(C, *spatial)` preprocessed.
        properties: what nnU-Net's reader and preprocessor have noted about the case.
        labels: names of dataset.json.
        levels: from 1 (fine).

    Raises:
        XModalError: for a level that the network has not.
    """
    tile = next(tiles_of(predictor, image)).float()
    by_level = stages_by_level(unwrapped(predictor.network).to(predictor.device).eval(), tile)
    level_of = {name: level for level in levels for name in stages_at(by_level, level, predictor.trainer_name)}
    heads = {probability_channel(predictor.dataset_json, label): label for label in labels}
    maps = []
    for (head, name), volume in grad_cam(predictor, image, list(heads), list(level_of)).items():
        label = heads[head]
        maps.append(
            HeatMap(
                kind="gradcam",
                name=f"{label}_level{level_of[name]}_{name}",
                title=f"{label}, level {level_of[name]}\n{name}",
                volume=map_on_case(volume, predictor, properties),
                channel=_channel_of(predictor, name),
                label=label,
            )
        )
    return maps


def attention_heat(predictor: SegmentationPredictor, image: torch.Tensor, properties: dict) -> list[HeatMap]:
    """Return the attention maps of every stream and level, see `attention_maps`; arguments as `grad_cam_heat`."""
    streams = unwrapped(predictor.network).encoder.stream_channels
    return [
        HeatMap(
            kind="attention",
            name=f"stream{stream}_level{level}",
            title=f"stream {stream}, level {level}\nat most {float(volume.max()):.2g} of uniform attention",
            volume=map_on_case(volume, predictor, properties),
            channel=streams[stream][0],
        )
        for (stream, level), volume in attention_maps(predictor, image).items()
    ]


def _channel_of(predictor: SegmentationPredictor, stage: str) -> int:
    """Return the first channel of the stream whose encoder a stage belongs to, else 0."""
    words = stage.split(".")
    if words[:2] == ["encoder", "streams"]:
        return unwrapped(predictor.network).encoder.stream_channels[int(words[2])][0]
    return 0
