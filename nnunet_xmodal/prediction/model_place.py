"""A model that is given by its place, a folder or a zip, without nnU-Net's variables."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_files import find_checkpoint, read_model_plans
from nnunet_xmodal.files.model_zip import unpack_model
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.files.trusted_names import find_trainer
from nnunet_xmodal.prediction.model import check_model_of_request, find_model
from nnunet_xmodal.prediction.request import PredictionRequest

_DEPTHS = ("plans.json", "*/plans.json", "*/*/plans.json", "*/*/*/plans.json")  # up to nnUNet_results in a folder


@contextmanager
def opened_model(request: PredictionRequest) -> Iterator[tuple[PredictionRequest, Path]]:
    """Yield the request with all names of its model, and the model's folder; a zip is unpacked for as long.

    Raises:
        XModalError: see `find_model`, `unpack_model` and `the_model_in`.
    """
    if request.model is None:
        folder = find_model(request)
        yield replace(request, dataset=folder.parent.name), folder  # a number is no name
        return
    with ExitStack() as stack:
        place = Path(request.model)
        if place.is_file():
            place = unpack_model(place, stack.enter_context(temporary_folder()), request.checkpoint)
        folder = the_model_in(place, request)
        completed = _completed(folder, request)
        check_model_of_request(completed, folder)
        yield completed, folder


def the_model_in(place: Path, request: PredictionRequest) -> Path:
    """Return the one model in a folder that the request can mean.

    Raises:
        XModalError: for a folder that is not there, or holds no model, none of these names or several.
    """
    shown = request.model
    if not place.is_dir():
        raise XModalError(f"-m {shown} does not exist: give the folder of a trained model, or a zip.")
    found = [models for depth in _DEPTHS if (models := _models(place, depth))]
    if not found:
        raise XModalError(
            f"-m {shown} holds no model (plans.json beside fold_0, fold_1, …): give the folder of a trained model, or "
            "a zip of nnUNetXModal_export or nnUNetv2_export_model_to_zip."
        )
    models = found[0]
    if len(models) > 1:
        models = [model for model in models if _fits(model, request)]
    if len(models) != 1:
        there = ", ".join(str(model.relative_to(place)) for model in (models or found[0])[:5])
        what = f"{len(models)} models that fit" if models else f"{len(found[0])} models, none of which fits"
        raise XModalError(f"-m {shown} holds {what} ({there}): choose one with -d, -tr, -p and -c.")
    return models[0]


def trained_folds(folder: Path, checkpoint: str) -> list[int | str]:
    """Return the folds of a model that have a checkpoint; "all" only where it is the only one."""
    names = [file.parent.name.removeprefix("fold_") for file in folder.glob(f"fold_*/{checkpoint}")]
    numbers = sorted(int(name) for name in names if name.isdecimal())
    return [*numbers] or (["all"] if "all" in names else [])


def _models(place: Path, depth: str) -> list[Path]:
    return sorted(file.parent for file in place.glob(depth) if any(file.parent.glob("fold_*")))


def _fits(model: Path, request: PredictionRequest) -> bool:
    """Whether nnU-Net's names of a model, those of its folders, are the ones that were given."""
    trainer, _, rest = model.name.partition("__")
    plans, _, configuration = rest.partition("__")
    named = ((request.trainer, trainer), (request.plans, plans), (request.configuration, configuration))
    dataset = str(request.dataset)
    is_dataset = not dataset or dataset == model.parent.name
    if dataset.isdecimal():
        is_dataset = model.parent.name.startswith(f"Dataset{int(dataset):03d}_")
    return is_dataset and all(not wanted or wanted == there for wanted, there in named)


def _completed(folder: Path, request: PredictionRequest) -> PredictionRequest:
    """Fill in what the request leaves to the model, as its files have it.

    Raises:
        XModalError: for files that are missing or not trusted, and another model than the named one.
    """
    plans = read_model_plans(folder)
    folds = list(request.folds) or trained_folds(folder, request.checkpoint) or [0]
    checkpoint = find_checkpoint(folder, folds[0], request.checkpoint)
    content = read_checkpoint(checkpoint, mmap=True)
    try:
        trainer, configuration = content["trainer_name"], content["init_args"]["configuration"]
    except (KeyError, TypeError) as error:
        raise XModalError(f"{checkpoint} is no readable checkpoint of nnU-Net ({error!r}): copy it anew.") from error
    find_trainer(trainer, str(checkpoint))
    there = {"trainer": trainer, "plans": plans.get("plans_name"), "configuration": configuration}
    for name, value in there.items():
        wanted = getattr(request, name)
        if not isinstance(value, str):
            raise XModalError(f"{folder} does not say its {name} ({value!r}): copy the model anew.")
        if wanted and wanted != value:
            raise XModalError(
                f"the model in {request.model} has the {name} {value}, not {wanted}: leave that flag out."
            )
    return replace(request, dataset=str(plans.get("dataset_name", "")), folds=tuple(folds), model=folder, **there)
