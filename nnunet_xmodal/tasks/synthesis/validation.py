"""The final validation of a pair of generators: every case made and measured."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from nnunet_xmodal.datasets.preprocessed_cases import CasesOnDisk
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.evaluation.figures.synthesis import MadeChannel, draw_synthesis
from nnunet_xmodal.evaluation.image_similarity import image_similarity, range_inside
from nnunet_xmodal.evaluation.untranslated import untranslated_ssim, worse_than_untranslated
from nnunet_xmodal.evaluation.validation_summary import CaseResult, gather_results, mean_metrics, write_summary
from nnunet_xmodal.files.labels import whole_image_key
from nnunet_xmodal.networks.generator_pair import GeneratorPair, ThereAndBack
from nnunet_xmodal.prediction.image_predictor import ImagePredictor, write_images
from nnunet_xmodal.prediction.native_geometry import images_in_native_geometry
from nnunet_xmodal.replaced import replaced

_BETTER = {"MAE": "lower", "PSNR": "higher", "SSIM": "higher"}


def validate_synthesis(
    predictor: ImagePredictor,
    dataset: CasesOnDisk,
    cases: Sequence[str],
    fold_folder: str | Path,
    log: Callable[[str], None] = print,
    rank: int = 0,
    ranks: int = 1,
) -> dict[str, float]:
    """Predict and measure preprocessed cases; write `validation/summary.json`, and images and a figure of each.

    Metrics are those of `image_similarity` on the network's grid and scale, inside the voxels that nnU-Net calls
    non-zero, as `A_to_B_SSIM` for what A's generator makes of A, and `A_to_B_to_A_SSIM` for the cycle; the data range
    of a channel is that of the real image inside the mask, and SSIM counts intensities from its minimum. Images on the
    case's own grid are in `validation/images/`.

    Where what is made of a stream is less similar to the other one than that stream itself is, a sentence in the log
    and under `"xmodal": {"warnings": …}` says so; `"untranslated"` beside it holds the SSIM of streams as they are.

    Args:
        predictor: initialised with a GeneratorPair.
        dataset: of nnU-Net, with these cases.
        rank, ranks: of DistributedDataParallel; every process takes its share and rank 0 writes the summary.

    Returns:
        Metric → mean over all cases.
    """
    pair = predictor.network
    there_and_back = pair.makes["A"] != pair.streams["A"]
    folder = Path(fold_folder) / "validation"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    key = whole_image_key(predictor.dataset_json)
    results: list[CaseResult] = []
    with replaced(predictor, network=ThereAndBack(pair) if there_and_back else pair):
        for case in cases[rank::ranks]:
            log(f"predicting {case}")
            results.append(_case_result(predictor, pair, dataset, case, folder / "images", key, there_and_back))
    results = gather_results(results, ranks)
    means = mean_metrics(results, key)
    if rank == 0:
        similarities = [result["untranslated"] for result in results]
        untranslated = {name: float(np.mean([of_case[name] for of_case in similarities])) for name in similarities[0]}
        metrics = [result["metrics"][key] for result in results]
        warnings = worse_than_untranslated(metrics, similarities) if there_and_back else []
        for sentence in warnings:
            log(f"WARNING: {sentence}")
        notes = {
            "directions": {name: _BETTER[name.rsplit("_", 1)[1]] for name in means},
            "where": "inside the non-zero voxels, in normalised intensities",
            "data_range": "of every real channel inside these voxels; in metric_per_case",
            "untranslated": untranslated,
            "warnings": warnings,
        }
        write_summary(folder, results, key, notes)
    return means


def _case_result(
    predictor: ImagePredictor,
    pair: GeneratorPair,
    dataset: CasesOnDisk,
    case: str,
    folder: Path,
    key: str,
    there_and_back: bool,
) -> CaseResult:
    """Write what is made of a case, draw it, and measure it."""
    data, segmentation, _, properties = dataset.load_case(case)
    real, mask = data[:], np.asarray(segmentation[0]) >= 0  # -1 is nnU-Net's mark for outside
    made = predictor.predict_sliding_window_return_logits(torch.from_numpy(real)).cpu().numpy() * mask
    n = len(real)
    native = images_in_native_geometry(made[:n], properties, predictor.plans_manager, predictor.configuration_manager)
    write_images(native, properties, folder / case, predictor.dataset_json["file_ending"])
    draw_synthesis(_channels(predictor.dataset_json, pair, real, made[:n]), mask, folder / f"{case}.png")
    ranges = range_inside(real, mask)
    untranslated = _untranslated(pair, real, mask, ranges) if there_and_back else {}
    # SSIM knows no negative intensities: its luminance would take an inverted image for a similar one
    lowest = np.array([channel[mask].min() if mask.any() else 0 for channel in real])[:, None, None, None]
    real, made = real - lowest, made - np.tile(lowest, (len(made) // n, 1, 1, 1))
    return {
        "reference_file": os.path.join(dataset.source_folder, case),
        "prediction_file": str(folder / f"{case}{predictor.dataset_json['file_ending']}"),
        "metrics": {key: _measured(pair, real, made, mask, ranges)},
        "data_range": ranges,
        "untranslated": untranslated,
    }


def _measured(
    pair: GeneratorPair, real: np.ndarray, made: np.ndarray, mask: np.ndarray, ranges: Sequence[float]
) -> dict[str, float]:
    """`made` holds the translations and then, if there are any, the cycles, `(C or 2C, *spatial)`."""
    n, metrics = len(real), {}
    there, back = made[:n], made[n:]

    def add(name: str, images: np.ndarray, channels: Sequence[int]) -> None:
        data_range = [ranges[channel] for channel in channels]
        for metric, value in image_similarity(images[channels], real[channels], mask, data_range).items():
            metrics[f"{name}_{metric}"] = value

    for source, channels in pair.makes.items():
        target = next(name for name, stream in pair.streams.items() if stream == channels)
        add(f"{source}_to_{target}", there, channels)
        if len(back):
            add(f"{source}_to_{target}_to_{source}", back, pair.streams[source])
    return metrics


def _untranslated(pair: GeneratorPair, real: np.ndarray, mask: np.ndarray, ranges: Sequence[float]) -> dict[str, float]:
    """SSIM of each stream with the other one, under the name of the translation."""
    return {
        f"{source}_to_{target}_SSIM": untranslated_ssim(real, mask, ranges, pair.streams[source], pair.streams[target])
        for source, target in ("AB", "BA")
    }


def _channels(dataset_json: dict, pair: GeneratorPair, real: np.ndarray, made: np.ndarray) -> list[MadeChannel]:
    names = channel_names_of(dataset_json)
    return [
        MadeChannel(
            names[channel], " + ".join(names[read] for read in pair.streams[source]), real[channel], made[channel]
        )
        for source in "AB"
        for channel in pair.makes[source]
    ]
