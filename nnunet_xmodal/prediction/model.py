"""The trained model that a request names: its folder, its files, its trainer."""

from pathlib import Path

from nnunetv2.utilities.file_path_utilities import convert_trainer_plans_config_to_identifier, get_output_folder

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.dataset_names import dataset_name
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.model_files import find_checkpoint, read_model_plans
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.prediction.request import PredictionRequest


def find_model(request: PredictionRequest) -> Path:
    """Return the results folder of the requested model: in nnUNet_results, or beside the model of the request.

    Raises:
        XModalError: for a dataset without results, a missing model or fold, and for checkpoints of something else.
    """
    names = (request.trainer, request.plans, request.configuration)
    if request.model is None:
        require_variables("nnUNet_results")
        folder = Path(get_output_folder(dataset_name(request.dataset), *names))
        way_out = "train it, or check -d, -tr, -p and -c"
    else:
        folder = request.model.parent / convert_trainer_plans_config_to_identifier(*names)
        way_out = f"it has to lie beside {request.model.name}, under nnU-Net's name"
    if not folder.is_dir():
        raise XModalError(f"there is no model {folder}: {way_out}.")
    check_model_of_request(request, folder)
    return folder


def check_model_of_request(request: PredictionRequest, folder: Path) -> None:
    """Check that a folder is the model that a request names.

    Raises:
        XModalError: for plans without the configuration, a missing fold, and checkpoints of something else.
    """
    plans = read_model_plans(folder)
    if request.configuration not in plans["configurations"]:
        raise XModalError(
            f"{folder / 'plans.json'} does not describe {request.configuration}: the file is another model's."
        )
    for fold in request.folds:
        _check_checkpoint(find_checkpoint(folder, fold, request.checkpoint), request.trainer, plans)


def _check_checkpoint(checkpoint: Path, trainer: str, shared_plans: dict) -> None:
    content = read_checkpoint(checkpoint, mmap=True)
    try:
        name, streams = content["trainer_name"], content["init_args"]["plans"].get("xmodal", {}).get("streams")
    except (KeyError, TypeError, AttributeError) as error:
        raise XModalError(f"{checkpoint} is no readable checkpoint of nnU-Net ({error!r}): copy it anew.") from error
    if name != trainer:
        raise XModalError(f"{checkpoint} was written by {name}, not by {trainer}: it lies in the wrong folder.")
    shared = shared_plans.get("xmodal", {}).get("streams")
    if streams != shared:
        raise XModalError(
            f"{checkpoint} was trained with the streams {streams}, but {checkpoint.parents[1] / 'plans.json'} says "
            f"{shared}: train anew."
        )
