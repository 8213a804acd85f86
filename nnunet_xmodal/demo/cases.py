"""The last steps of the demo: new cases are predicted by all folds and drawn."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunet_xmodal.data.atomic_files import write_atomically
from nnunet_xmodal.data.streams import channel_names_of, describe_streams
from nnunet_xmodal.demo.progress import Progress
from nnunet_xmodal.demo.settings import Demo

_DEEPEST_LEVELS = 2  # whose attention is shown


@dataclass
class Case:
    """A case of the raw dataset; the label's file may be absent."""

    name: str
    images: list[str]
    label: Path


def predict_and_draw(demo: Demo, progress: Progress, device) -> None:
    """Writes predictions of every trainer, the mean of its folds, and `cases.png`.

    The attention maps shown are those of the last trainer whose network has several streams.
    """
    # nnU-Net reads its environment when it is imported
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    from nnunet_xmodal.evaluation.figures import draw_cases

    cases, folds = new_cases(demo)
    attention: list[dict[str, np.ndarray]] = [{} for _ in cases]
    for trainer in demo.trainers:
        with progress.step(f"predicting {len(cases)} new cases, {trainer}"):
            predictor = nnUNetPredictor(device=device, allow_tqdm=False)
            predictor.initialize_from_trained_model_folder(str(demo.model(trainer)), folds)
            demo.predictions(trainer).mkdir(parents=True, exist_ok=True)
            predictor.predict_from_files_sequential(
                [case.images for case in cases], [str(demo.predictions(trainer) / case.name) for case in cases]
            )
            if hasattr(predictor.network.encoder, "stream_features"):
                attention = [_attention(predictor, case) for case in cases]
    with progress.step("drawing the cases"):
        reader = predictor.plans_manager.image_reader_writer_class()
        panels = [_panels(demo, reader, case, maps) for case, maps in zip(cases, attention)]
        write_atomically(demo.folder / "cases.png", lambda name: draw_cases(panels, name))


def new_cases(demo: Demo) -> tuple[list[Case], list[int]]:
    """Cases of `imagesTs` and all folds, or without such cases those that fold 0 validates on, and fold 0."""
    ending = demo.dataset_json["file_ending"]
    first_channel = f"_0000{ending}"
    files = sorted((demo.raw / "imagesTs").glob(f"*{first_channel}"))
    if files:
        names, split, folds = [path.name.removesuffix(first_channel) for path in files], "Ts", list(range(demo.folds))
    else:
        names, split, folds = demo.validation_cases(0), "Tr", [0]
    channels = range(len(channel_names_of(demo.dataset_json)))
    cases = [
        Case(
            name,
            [str(demo.raw / f"images{split}" / f"{name}_{channel:04d}{ending}") for channel in channels],
            demo.raw / f"labels{split}" / f"{name}{ending}",
        )
        for name in names[: demo.cases]
    ]
    return cases, folds


def _attention(predictor, case: Case) -> dict[str, np.ndarray]:
    """Title → attention map `(z, y, x)` on the grid of the case, for the deepest levels of every stream."""
    import torch

    from nnunet_xmodal.prediction.attention_maps import attention_maps, in_native_geometry

    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    preprocessor = configuration.preprocessor_class(verbose=False)
    image, _, properties = preprocessor.run_case(case.images, None, plans, configuration, predictor.dataset_json)
    maps = attention_maps(predictor, torch.from_numpy(image))
    names = channel_names_of(predictor.dataset_json)
    streams = [[c for c in channels if c < len(names)] for channels in predictor.network.encoder.stream_channels]
    deepest = max(level for _, level in maps)
    return {
        f"attention to {describe_streams([streams[stream]], names)}\nlevel {level} of {deepest}": in_native_geometry(
            maps[stream, level], predictor, properties
        )
        for stream, level in sorted(maps)
        if level > deepest - _DEEPEST_LEVELS
    }


def _panels(demo: Demo, reader, case: Case, attention: Mapping[str, np.ndarray]):
    """The slice of a case that shows most."""
    from nnunet_xmodal.evaluation.figures import CasePanels, clearest_slice, foreground_dice

    ending = demo.dataset_json["file_ending"]
    images, properties = reader.read_images(case.images)  # C z y x
    truth = reader.read_seg(str(case.label))[0][0] if case.label.is_file() else None
    predictions = {
        trainer: reader.read_seg(str(demo.predictions(trainer) / f"{case.name}{ending}"))[0][0]
        for trainer in demo.trainers
    }
    z = clearest_slice(truth, *predictions.values())
    _, y_mm, x_mm = properties["spacing"]
    return CasePanels(
        name=f"{case.name}, slice {z}",
        channels={name: image[z] for name, image in zip(channel_names_of(demo.dataset_json), images)},
        truth=None if truth is None else truth[z],
        predictions={trainer: prediction[z] for trainer, prediction in predictions.items()},
        dice={trainer: foreground_dice(prediction, truth) for trainer, prediction in predictions.items()},
        attention={title: volume[z] for title, volume in attention.items()},
        aspect=float(y_mm / x_mm),
    )
