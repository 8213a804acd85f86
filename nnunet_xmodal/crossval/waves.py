"""The jobs of a request, in the order of a cascade's stages."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.crossval.job import Job, jobs_of
from nnunet_xmodal.crossval.request import CrossvalRequest
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.trusted_names import trainer_called
from nnunet_xmodal.files.trusted_plans import check_plans


def waves_of(request: CrossvalRequest, preprocessed: Path, results: Path) -> list[list[Job]]:
    """Return the jobs that need no other stage, then those that read the predictions of a previous one.

    Args:
        request: which trainers, configurations, plans and folds.
        preprocessed: folder of the preprocessed dataset.
        results: nnU-Net's results folder.

    Raises:
        XModalError: for trainers, plans, configurations, preprocessed data or weights that do not exist.
    """
    for trainer in request.trainers:
        found = trainer_class(trainer)
        if request.save_probabilities and not getattr(found, "saves_probabilities", True):
            raise XModalError(f"--npz: {trainer} has no probabilities to save, leave it out.")
    previous = {
        (plans, name): configuration.previous_stage_name
        for plans, name, configuration in _configurations(request, preprocessed)
    }
    jobs = [
        replace(job, previous=previous[job.plans, job.configuration])
        for job in jobs_of(
            results,
            preprocessed.name,
            request.configurations,
            request.trainers,
            request.plans,
            request.folds,
            flags_of_training(request),
        )
    ]
    first = [job for job in jobs if job.previous is None]
    second = [job for job in jobs if job.previous is not None]
    return [wave for wave in (first, second) if wave]


def data_folders(request: CrossvalRequest, preprocessed: Path) -> list[Path]:
    """Return where the preprocessed cases of every plan and configuration lie.

    Raises:
        XModalError: for plans, configurations or data that do not exist.
    """
    names = {configuration.data_identifier for _, _, configuration in _configurations(request, preprocessed)}
    return [preprocessed / name for name in sorted(names)]


def flags_of_training(request: CrossvalRequest) -> list[str]:
    """Return what is passed on to every nnUNetv2_train.

    Raises:
        XModalError: for pretrained weights that do not exist.
    """
    flags = ["-device", request.device] if request.device != "cuda" else []
    flags += ["-num_gpus", str(request.gpus_per_training)] if request.gpus_per_training != 1 else []
    if request.pretrained_weights is not None:
        for fold in request.folds:
            weights = request.pretrained_weights.replace("{fold}", str(fold))
            if not Path(weights).is_file():
                raise XModalError(f"-pretrained_weights {weights} does not exist.")
        flags += ["-pretrained_weights", str(Path(request.pretrained_weights).resolve())]
    return flags + ["--npz"] * request.save_probabilities + ["--val_best"] * request.validate_best


def trainer_class(name: str) -> type:
    """Return a trainer as nnU-Net finds it.

    Raises:
        XModalError: for one that it does not find.
    """
    try:
        return trainer_called(name)
    except (RuntimeError, ImportError, AssertionError) as error:
        raise XModalError(f"-tr {name} is no trainer that nnU-Net finds ({str(error).splitlines()[0]}).") from error


def _configurations(request: CrossvalRequest, preprocessed: Path) -> Iterable[tuple[str, str, ConfigurationManager]]:
    """Yield the plans, name and content of every configuration that is trained, after a look at its data."""
    for plans in request.plans:
        manager = _read_plans(preprocessed, plans)
        for name in request.configurations:
            _check_preprocessed(manager, name, plans, preprocessed)
            yield plans, name, manager.get_configuration(name)


def _read_plans(preprocessed: Path, name: str) -> PlansManager:
    file = preprocessed / f"{name}.json"
    if not file.is_file():
        raise XModalError(f"{file} is missing: run nnUNetXModal_plan_and_preprocess, or check -d and -p.")
    plans = read_json(file)
    check_plans(plans, file)
    return PlansManager(plans)


def _check_preprocessed(manager: PlansManager, configuration: str, plans: str, preprocessed: Path) -> None:
    if configuration not in manager.available_configurations:
        known = ", ".join(manager.available_configurations)
        raise XModalError(f"-c {configuration} is not in {preprocessed / plans}.json: take one of {known}.")
    folder = preprocessed / manager.get_configuration(configuration).data_identifier
    if not folder.is_dir() or not any(folder.iterdir()):
        raise XModalError(f"{folder} holds no data: run nnUNetv2_preprocess -c {configuration} -plans_name {plans}.")
