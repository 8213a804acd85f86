"""The whole way in one process: raw data → plan → preprocess → train → predict → table → figure.

nnU-Net reads a part of its environment when it is imported, so it is imported inside of functions here, after
`_set_environment`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnunet_xmodal import discovery
from nnunet_xmodal.datasets.streams import streams_of
from nnunet_xmodal.demo.configuration import narrowed
from nnunet_xmodal.demo.in_process import pools_of_threads
from nnunet_xmodal.demo.new_cases import dice_of, draw, known_shares, predict
from nnunet_xmodal.demo.progress import Progress
from nnunet_xmodal.demo.settings import PLANS, Demo, read_json
from nnunet_xmodal.demo.training import train_all
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_json
from nnunet_xmodal.files.claim import claimed, is_claim
from nnunet_xmodal.files.folders import check_output_folder
from nnunet_xmodal.phantoms.prostate import write_prostate_dataset

if TYPE_CHECKING:
    import pandas as pd
    import torch

_FINGERPRINT_VOXELS = 1e6
"""Intensities that are drawn for nnU-Net's fingerprint, in place of its 1e8, which take ten seconds."""


def run(demo: Demo) -> None:
    """Walk the whole way, one demo in a folder at a time.

    Raises:
        XModalError: see `_run`; if another one is at work in the folder.
    """
    device = _torch_device(demo)
    with claimed(demo.folder):
        _run(demo, device)


def _run(demo: Demo, device: torch.device) -> None:
    """Do everything, each step printed as it begins; what was finished before is skipped.

    Raises:
        XModalError: if the folder holds something else, or the device or configuration does not exist.
    """
    _claim_folder(demo)
    _set_environment(demo)
    progress = Progress(demo.folder / "log.txt")
    progress.say(f"everything is written to {demo.folder}; what nnU-Net prints goes to log.txt there")
    if demo.dataset is None:
        with progress.step(f"phantoms: {demo.phantoms} for training, {demo.cases} new"):
            write_prostate_dataset(demo.raw, demo.phantoms, demo.cases, demo.seed)
    with progress.step("loading nnU-Net"):
        import nnunetv2.run.run_training  # noqa: F401  slow, hence under its own line
    progress.say(f"device: {device}")
    _plan_and_preprocess(demo, progress)
    _check_trainers_and_new_cases(demo)
    train_all(demo, progress, device)
    predict(demo, progress, device)
    with progress.step("measuring and drawing new cases"):
        dice = dice_of(demo)
        draw(demo, dice)
    print(f"\n{_compare(demo, progress, dice)}\n")
    progress.say(f"table: {demo.folder / 'results.md'}")
    progress.say(f"report: {demo.folder / 'report' / 'report.html'}")
    progress.say(f"cases: {demo.folder / 'cases.png'}")


def _claim_folder(demo: Demo) -> None:
    """Write down what the data of this demo are, or compare.

    Trainers, folds, lengths and configurations have names and folders of their own: other ones are added.
    """
    check_output_folder(demo.folder, "--folder")
    ours = demo.data
    record = demo.folder / "demo.json"
    if record.is_file():
        content = read_json(record)
        theirs = content.get("data") if isinstance(content, dict) else None
        if theirs is None:
            raise XModalError(f"{record} is of no demo: take another --folder.")
        if theirs != ours:
            raise XModalError(
                f"{demo.folder} holds a demo on {theirs}, but this one is to run on {ours}: take another --folder, "
                "or delete that one."
            )
    elif any(not is_claim(file) for file in demo.folder.iterdir()):
        raise XModalError(f"{demo.folder} exists and is no folder of this demo: take another --folder.")
    else:
        write_json({"data": ours}, record)


def _set_environment(demo: Demo) -> None:
    os.environ["nnUNet_raw"] = str(demo.raw.parent)
    os.environ["nnUNet_preprocessed"] = str(demo.folder / "nnUNet_preprocessed")
    os.environ["nnUNet_results"] = str(demo.folder / "nnUNet_results")
    # every validation starts pools of this size, and every process of theirs loads torch
    os.environ["nnUNet_def_n_proc"] = "1"
    os.environ["nnUNet_n_proc_DA"] = "1"
    # compiling takes longer than these trainings
    os.environ["nnUNet_compile"] = "false"
    discovery.register()


def _torch_device(demo: Demo) -> torch.device:
    import torch

    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    name = demo.device
    if name == "auto":
        name = "cuda" if available["cuda"] else "cpu"
    if not available[name]:
        usable = ", ".join(device for device, is_there in available.items() if is_there)
        raise XModalError(f"--device {name} is not available to torch on this machine: take one of {usable}.")
    return torch.device(name)


def _plan_and_preprocess(demo: Demo, progress: Progress) -> None:
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api
    from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor

    from nnunet_xmodal.datasets.cases import training_cases
    from nnunet_xmodal.datasets.checks import check_cases

    dataset_id = int(demo.dataset_name[7:10])
    plans_file = demo.preprocessed / f"{PLANS}.json"
    known = _configurations(plans_file)
    if not known:
        with progress.step("checking images"):
            check_cases(training_cases(demo.raw, demo.dataset_json), demo.dataset_json, progress=False)
        with progress.step("fingerprint and plan"):
            with pools_of_threads():
                extractor = DatasetFingerprintExtractor(dataset_id, num_processes=1)
                extractor.num_foreground_voxels_for_intensitystats = _FINGERPRINT_VOXELS
                extractor.run(overwrite_existing=True)
            api.plan_experiment_dataset(dataset_id)
        known = _configurations(plans_file)
    if demo.configuration not in known:
        raise XModalError(
            f"--configuration {demo.configuration} is not in nnU-Net's plans for {demo.dataset_name}: take one of "
            f"{', '.join(name for name, content in known.items() if 'inherits_from' not in content)}."
        )
    # the copy is added last: it says that its data are preprocessed
    if any(content.get("inherits_from") == demo.configuration for content in known.values()):
        progress.say("planned and preprocessed before: skipped")
    else:
        with progress.step("preprocessing"), pools_of_threads():
            api.preprocess_dataset(dataset_id, PLANS, (demo.configuration,), num_processes=[1])
    if demo.trained_configuration not in known:
        plans = read_json(plans_file)
        copy = narrowed(known, demo.configuration, demo.batch_size, demo.features)
        write_json({**plans, "configurations": {**known, demo.trained_configuration: copy}}, plans_file)


def _check_trainers_and_new_cases(demo: Demo) -> None:
    """Notice before the first training what would stop the last one."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_xmodal import trainers
    from nnunet_xmodal.datasets.cases import cases_in_folder
    from nnunet_xmodal.datasets.checks import check_cases

    plans = read_json(demo.preprocessed / f"{PLANS}.json")
    streams = streams_of(plans, {}, demo.dataset_json)
    manager = PlansManager({**plans, "xmodal": {"streams": streams}})
    configuration = manager.get_configuration(demo.trained_configuration)
    inputs = determine_num_input_channels(manager, configuration, demo.dataset_json)
    outputs = manager.get_label_manager(demo.dataset_json).num_segmentation_heads
    for name in demo.trainers:
        if name in trainers.TRAINERS:
            getattr(trainers, name).build_network_architecture(manager, configuration, inputs, outputs)
    if (demo.raw / "imagesTs").is_dir() and any((demo.raw / "imagesTs").iterdir()):
        new = cases_in_folder(demo.raw / "imagesTs", demo.dataset_json)[: demo.cases]
        check_cases(new, demo.dataset_json, progress=False)


def _compare(demo: Demo, progress: Progress, dice: pd.DataFrame | None) -> str:
    """Write `report/` and results.md; return the table with and without modalities as text."""
    import pandas as pd

    from nnunet_xmodal.comparison.report.tables import scores
    from nnunet_xmodal.comparison.request import ComparisonRequest
    from nnunet_xmodal.comparison.run import compare
    from nnunet_xmodal.demo.results import dice_table, validation_dice, write_results
    from nnunet_xmodal.demo.shares import shares_sentence

    request = ComparisonRequest(
        output=demo.folder / "report",
        dataset=demo.dataset_name,
        configurations=[demo.trained_configuration],
        trainers=[demo.of_length(trainer) for trainer in demo.trainers],
        plans=[PLANS],
        folds=list(range(demo.folds)),
        processes=1,
    )
    with progress.step("comparing the trainers"):
        contents = compare(request)
    table = dice_table(pd.concat([validation_dice(demo), dice]), demo.trainers)
    shares = {} if dice is None else known_shares(demo, dice)
    told = [shares_sentence(of_trainer, trainer) for trainer, of_trainer in shares.items()]
    write_results(demo, table, scores(contents), told)
    return table


def _configurations(plans_file: Path) -> dict:
    """Return those of the plans; empty without plans, or with half a file."""
    try:
        return read_json(plans_file)["configurations"]
    except (OSError, ValueError):
        return {}
