"""The paper's protocol: organ by organ, only between its first and last slice, from the chunk at its position."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from nnunet_xmodal.datasets.preprocessed_cases import PreprocessedCases
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.networks.prototype_network import PrototypeNetwork
from nnunet_xmodal.tasks.few_shot.episodes import on_patch
from nnunet_xmodal.tasks.few_shot.support import Label, labels_to_segment
from nnunet_xmodal.tasks.few_shot.support_slices import chunk_of, organ_extent

METRIC = "protocol_Dice"

_SLICES_AT_ONCE = 8


def add_protocol(
    network: PrototypeNetwork,
    device: torch.device,
    dataset: PreprocessedCases,
    label_manager: LabelManager,
    summary_file: str | Path,
    file_ending: str,
    rank: int = 0,
    ranks: int = 1,
) -> float:
    """Measure every case and write the metric beside nnU-Net's into its `summary.json`.

    This is what few-shot papers report (ALPNet, ECCV 2020; CRTPNet, Tables 1 and 2): 1-way 1-shot, on the
    preprocessed slices. It knows which slices hold the organ and where in the organ they lie, which nobody knows who
    segments a new scan; nnU-Net's own Dice in the same file knows neither. NaN where a case does not show a label.

    Args:
        dataset: of nnU-Net, with the validation cases.
        file_ending: of the predictions that the summary names.
        rank, ranks: of DistributedDataParallel; every process takes its share and rank 0 writes.

    Returns:
        The mean over labels of the means over cases.
    """
    labels = labels_to_segment(label_manager)
    measured = {
        case: protocol_dice(network, device, dataset, case, labels, label_manager.ignore_label)
        for case in dataset.identifiers[rank::ranks]
    }
    if ranks > 1:
        gathered: list[dict[str, dict[str, float]]] = [{} for _ in range(ranks)]
        dist.all_gather_object(gathered, measured)
        measured = {case: dice for part in gathered for case, dice in part.items()}
    means = {key: _mean([dice[key] for dice in measured.values()]) for key in labels}
    mean = _mean(list(means.values()))
    if rank == 0:
        summary = read_json(summary_file)
        for case in summary["metric_per_case"]:
            name = Path(case["prediction_file"]).name.removesuffix(file_ending)
            for key, value in measured[name].items():
                case["metrics"][key][METRIC] = value
        for key, value in means.items():
            summary["mean"][key][METRIC] = value
        summary["foreground_mean"][METRIC] = mean
        summary["xmodal"] = {"directions": {METRIC: "higher"}}
        write_json(summary, Path(summary_file))
    return mean


@torch.inference_mode()
def protocol_dice(
    network: PrototypeNetwork,
    device: torch.device,
    dataset: PreprocessedCases,
    case: str,
    labels: Mapping[str, Label],
    ignore_label: int | None = None,
) -> dict[str, float]:
    """Return key of each label → Dice over the slices of one case between the organ's first and last one.

    NaN for an organ that the case does not show. Pixels of the ignore label are not scored.
    """
    data, segmentation, *_ = dataset.load_case(case)
    segmentation = np.asarray(segmentation[0])
    result = {}
    for number, (key, values) in enumerate(labels.items()):
        extent = organ_extent(segmentation, values)
        if extent is None:
            result[key] = float("nan")
            continue
        first, last = extent
        both = predicted = true = 0
        for begin in range(first, last + 1, _SLICES_AT_ONCE):
            indices = list(range(begin, min(begin + _SLICES_AT_ONCE, last + 1)))
            slices = on_patch(np.asarray(data[:, indices[0] : indices[-1] + 1], np.float32), network.size)
            chunks = torch.tensor([chunk_of(index, first, last, network.chunks) for index in indices], device=device)
            images = torch.from_numpy(slices).transpose(0, 1).to(device)  # slices C H W
            found = network.margins(images, number, chunks)[:, 0].cpu().numpy() > 0
            truth = np.isin(segmentation[indices], values)
            found = on_patch(found, truth.shape[1:])  # what a patch cuts off is not found
            if ignore_label is not None:
                found = found & (segmentation[indices] != ignore_label)
            both += (found & truth).sum()
            predicted += found.sum()
            true += truth.sum()
        result[key] = float(2 * both / (predicted + true))
    return result


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
