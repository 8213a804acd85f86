"""What a model costs: parameters, FLOPs of a patch, seconds per epoch and per predicted case."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import pandas as pd
import torch
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.utils.flop_counter import FlopCounterMode

from nnunet_xmodal.comparison.sources import TrainedModel
from nnunet_xmodal.files.model_files import read_model_dataset_json, read_model_plans
from nnunet_xmodal.files.training_log import TrainingLog, read_training_log
from nnunet_xmodal.files.trusted_checkpoints import only_weights
from nnunet_xmodal.files.trusted_names import trainer_called
from nnunet_xmodal.physics.field_inputs import FieldInputs
from nnunet_xmodal.prediction.building import building


def cost_table(models: Sequence[TrainedModel]) -> pd.DataFrame:
    """Return a row per model: model, parameters, flops, seconds_per_epoch, seconds_per_case; NaN where unknown."""
    rows = []
    for model in models:
        folder, name = model.results.folder, model.results.name
        try:
            cost: tuple[float, float] = network_cost(folder, model.trainer, model.configuration)
        except Exception as error:  # a network of somebody else's: the scores are worth having without its cost
            print(f"{name}: parameters and FLOPs are left out ({type(error).__name__}: {error})")
            cost = float("nan"), float("nan")
        logs = [read_training_log(folder / f"fold_{fold}") for fold in model.results.folds]
        rows.append((name, *cost, *seconds(logs)))
    return pd.DataFrame(rows, columns=["model", "parameters", "flops", "seconds_per_epoch", "seconds_per_case"])


def network_cost(model: Path, trainer: str, configuration: str) -> tuple[int, int]:
    """Count the parameters of the network that predicts, and FLOPs of one patch (two per multiply-add).

    The network is built on torch's meta device, which has shapes but no memory.

    Raises:
        XModalError: for plans that are missing, cut, or name anything but layers and networks, see `--trust`.
        Exception: whatever building or running a network of somebody else's trainer may raise.
    """
    plans = PlansManager(read_model_plans(model))
    dataset_json = read_model_dataset_json(model)
    settings = plans.get_configuration(configuration)
    channels = determine_num_input_channels(plans, settings, dataset_json)
    entry = plans.plans.get("xmodal", {})
    computed = FieldInputs.of_entry(entry.get("field_inputs"))
    read = channels - ("target_channel" in entry) + (0 if computed is None else computed.channels)
    heads = plans.get_label_manager(dataset_json).num_segmentation_heads
    with warnings.catch_warnings():  # of all that nnU-Net's folders import
        warnings.simplefilter("ignore", FutureWarning)
        build = trainer_called(trainer).build_network_architecture
    with torch.device("meta"), building("predictor"), only_weights():
        network = build(plans, settings, channels, heads, enable_deep_supervision=False).eval()
        patch = torch.empty(1, read, *settings.patch_size)  # (1, C, *patch)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(patch)
    return sum(parameter.numel() for parameter in network.parameters()), counter.get_total_flops()


def seconds(logs: list[TrainingLog]) -> tuple[float, float]:
    """Return seconds per epoch and per case of the final validation, means over folds; NaN where no log has them.

    On different machines they say more about those than about the models.
    """
    per_epoch = [log.seconds_per_epoch for log in logs if log.seconds_per_epoch is not None]
    per_case = [log.seconds_per_case for log in logs if log.seconds_per_case is not None]
    return mean(per_epoch) if per_epoch else float("nan"), mean(per_case) if per_case else float("nan")
