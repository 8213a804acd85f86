"""The whole way in one process: raw data → plan → preprocess → train → predict → table → figure.

nnU-Net reads a part of its environment when it is imported, so it is imported inside of functions here, after
`_set_environment`.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic

from nnunet_xmodal import discovery
from nnunet_xmodal.data.atomic_files import write_atomically, write_json
from nnunet_xmodal.data.phantoms import write_phantom_dataset
from nnunet_xmodal.data.streams import streams_of
from nnunet_xmodal.demo.cases import predict_and_draw
from nnunet_xmodal.demo.progress import Progress, clock
from nnunet_xmodal.demo.settings import PLANS, Demo, read_json
from nnunet_xmodal.errors import XModalError

TRAINING_PHANTOMS = 20


def run(demo: Demo) -> None:
    """Everything, each step printed as it begins; what was finished before is skipped.

    Raises:
        XModalError: if the folder holds something else, or the device or configuration does not exist.
    """
    device = _torch_device(demo)
    _claim_folder(demo)
    _set_environment(demo)
    progress = Progress(demo.folder / "log.txt")
    progress.say(f"everything is written to {demo.folder}; what nnU-Net prints goes to log.txt there")
    if demo.dataset is None:
        with progress.step(f"phantoms: {TRAINING_PHANTOMS} for training, {demo.cases} new"):
            write_phantom_dataset(demo.raw, TRAINING_PHANTOMS, demo.cases, demo.seed)
    with progress.step("loading nnU-Net"):
        import nnunetv2.run.run_training  # noqa: F401  slow, hence under its own line
    progress.say(f"device: {device}")
    _plan_and_preprocess(demo, progress)
    _check_trainers_and_new_cases(demo)
    _train(demo, progress, device)
    predict_and_draw(demo, progress, device)
    print(f"\n{_compare(demo, progress)}\n")
    progress.say(f"table: {demo.folder / 'results.md'}")
    progress.say(f"report: {demo.folder / 'report' / 'report.html'}")
    progress.say(f"cases: {demo.folder / 'cases.png'}")


def _claim_folder(demo: Demo) -> None:
    """Writes down what the data of this demo are, or compares.

    Trainers, folds, lengths and configurations have names and folders of their own: other ones are added.
    """
    ours = str(demo.dataset or f"phantoms of seed {demo.seed}")
    record = demo.folder / "demo.json"
    if record.is_file():
        theirs = read_json(record)["data"]
        if theirs != ours:
            raise XModalError(
                f"{demo.folder} holds a demo on {theirs}, but this one is to run on {ours}: take another --folder, "
                "or delete that one."
            )
    elif demo.folder.exists() and (not demo.folder.is_dir() or any(demo.folder.iterdir())):
        raise XModalError(f"{demo.folder} exists and is no folder of this demo: take another --folder.")
    else:
        demo.folder.mkdir(parents=True, exist_ok=True)
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


def _torch_device(demo: Demo):
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

    from nnunet_xmodal.data.image_checks import check_cases, training_cases

    dataset_id = int(demo.dataset_name[7:10])
    plans_file = demo.preprocessed / f"{PLANS}.json"
    known = _configurations(plans_file)
    if not known:
        with progress.step("checking images"):
            check_cases(training_cases(demo.raw, demo.dataset_json), demo.dataset_json, progress=False)
        with progress.step("fingerprint and plan"):
            api.extract_fingerprint_dataset(dataset_id, num_processes=1)
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
        with progress.step("preprocessing"):
            api.preprocess_dataset(dataset_id, PLANS, (demo.configuration,), num_processes=[1])
    if demo.trained_configuration not in known:
        plans = read_json(plans_file)
        copy = {"inherits_from": demo.configuration, "batch_size": demo.batch_size}
        write_json({**plans, "configurations": {**known, demo.trained_configuration: copy}}, plans_file)


def _check_trainers_and_new_cases(demo: Demo) -> None:
    """Notices before the first training what would stop the last one."""
    from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_xmodal import trainers
    from nnunet_xmodal.data.image_checks import cases_in_folder, check_cases

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


def _train(demo: Demo, progress: Progress, device) -> None:
    """Fold after fold, all trainers on each: an interrupted demo holds comparable trainings."""
    from nnunetv2.run.run_training import run_training

    # no loader processes; planning would fail with this value
    os.environ["nnUNet_n_proc_DA"] = "0"
    todo = [(fold, trainer) for fold in range(demo.folds) for trainer in demo.trainers]
    finished = [job for job in todo if _is_finished(demo.fold(job[1], job[0]))]
    if finished:
        progress.say(f"{len(finished)} of {len(todo)} trainings were finished before: skipped")
        todo = [job for job in todo if job not in finished]
    seconds: dict[str, list[float]] = {trainer: [] for trainer in demo.trainers}
    for index, (fold, trainer) in enumerate(todo):
        folder = demo.fold(trainer, fold)
        checkpoints = _readable_checkpoints(folder)
        validate_only = "checkpoint_final.pth" in checkpoints
        verb = "validating" if validate_only else "continuing" if checkpoints else "training"
        began = monotonic()
        with progress.step(f"{verb} {trainer}, fold {fold} ({index + 1} of {len(todo)})") as results:
            run_training(
                demo.dataset_name,
                demo.trained_configuration,
                fold,
                demo.of_length(trainer),
                PLANS,
                continue_training=bool(checkpoints) and not validate_only,
                only_run_validation=validate_only,
                device=device,
            )
            seconds[trainer].append(monotonic() - began)
            dice = read_json(folder / "validation" / "summary.json")["foreground_mean"]["Dice"]
            results.append(f"Dice {100 * dice:.1f}")
            left = _estimate([trainer for _, trainer in todo[index + 1 :]], seconds)
            results.append(f"about {clock(left)} of training left" if left else "last training")


def _compare(demo: Demo, progress: Progress) -> str:
    """Writes `report/` and results.md; the table of scores as text."""
    from nnunet_xmodal.comparison.report.tables import scores
    from nnunet_xmodal.comparison.run import compare
    from nnunet_xmodal.comparison.settings import ComparisonSettings

    settings = ComparisonSettings(
        output=demo.folder / "report",
        dataset=demo.dataset_name,
        configurations=[demo.trained_configuration],
        trainers=[demo.of_length(trainer) for trainer in demo.trainers],
        plans=[PLANS],
        folds=list(range(demo.folds)),
    )
    with progress.step("comparing the trainers"):
        contents = compare(settings)
    table = "\n\n".join(scores(contents))
    data = f"phantoms of seed {demo.seed}" if demo.dataset is None else f"`{demo.dataset_name}`"
    text = (
        f"# nnUNetXModal_demo\n\nCross-validation on {data}: configuration {demo.configuration}, "
        f"{demo.epochs} epochs of {demo.iterations} steps with {demo.batch_size} samples, final checkpoints. "
        "Such short trainings show that everything works, not which method is better.\n\n"
        f"{table}\n\nMore in [the report](report/report.html).\n\n![new cases](cases.png)\n"
    )
    write_atomically(demo.folder / "results.md", lambda name: Path(name).write_text(text, encoding="utf-8"))
    return table


def _is_finished(fold: Path) -> bool:
    try:
        summary = read_json(fold / "validation" / "summary.json")
    except (OSError, ValueError):  # absent, or cut off when the validation was interrupted
        return False
    return "foreground_mean" in summary and (fold / "checkpoint_final.pth").is_file()


def _configurations(plans_file: Path) -> dict:
    """Those of the plans; empty without plans, or with half a file."""
    try:
        return read_json(plans_file)["configurations"]
    except (OSError, ValueError):
        return {}


def _readable_checkpoints(fold: Path) -> list[str]:
    """Names of a fold's checkpoints; those that stock trainers were interrupted in writing are removed."""
    import torch

    readable = []
    for name in ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth"):
        path = fold / name
        if path.is_file():
            try:
                torch.load(path, map_location="cpu", weights_only=False)
                readable.append(name)
            except Exception:  # whatever unpickling half a file raises
                path.unlink()
    return readable


def _estimate(left: Sequence[str], seconds: Mapping[str, Sequence[float]]) -> float:
    """Seconds for the trainings that are left; a trainer that was not timed yet counts like the slowest that was."""
    means = {trainer: sum(values) / len(values) for trainer, values in seconds.items() if values}
    return sum(means.get(trainer, max(means.values())) for trainer in left)
