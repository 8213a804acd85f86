"""A trained model as one zip, with a card, that `nnUNetXModal_predict -m` and nnU-Net's own installer take."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from nnunet_xmodal import discovery
from nnunet_xmodal.datasets.stored_axes import axes_of_model, recorded_axes
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.atomic import write_atomically, write_json
from nnunet_xmodal.files.model_files import check_model, find_checkpoint, read_model_dataset_json, read_model_plans
from nnunet_xmodal.files.model_temperature import NAME as TEMPERATURE
from nnunet_xmodal.files.model_temperature import not_fitted_on, read_temperature
from nnunet_xmodal.files.model_zip import BESIDE_FOLDS, CARD, sha256_of
from nnunet_xmodal.files.remarks import remark
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.files.trusted_names import find_trainer
from nnunet_xmodal.prediction.model_place import opened_model
from nnunet_xmodal.sharing.card import as_markdown, make_card
from nnunet_xmodal.sharing.request import LICENCE, USE, ExportRequest
from nnunet_xmodal.sharing.scores import TRAINED_ON, scores_of_report, scores_of_validation
from nnunet_xmodal.sharing.streams_read import streams_read_by


def export(request: ExportRequest) -> str:
    """Write the zip.

    Into it go dataset.json, fingerprint, temperature and the folds' checkpoints as they are, the plans with the axes of
    the training cases, which a prediction else reads from the validations, and the card as JSON and as Markdown; no
    case, no name of one and no log.

    Returns:
        The SHA-256 of the zip, to be told to whoever gets it.

    Raises:
        XModalError: before anything is written, for a zip that exists, a model that is missing, cut or could run code,
            and scores that cannot be read.
    """
    if request.output.exists() and not request.overwrite:
        raise XModalError(f"{request.output} exists: give another name, or --overwrite.")
    if not request.output.absolute().parent.is_dir():
        raise XModalError(f"the folder {request.output.absolute().parent} does not exist: make it first.")
    discovery.register()
    with trusting(request.model.trust), opened_model(request.model) as (named, folder), temporary_folder() as work:
        check_model(folder, named.folds, named.checkpoint)
        request = replace(request, model=named)
        plans, dataset_json = read_model_plans(folder), read_model_dataset_json(folder)
        if request.scores is not None:
            source = "nnUNetXModal_compare"
            scores = scores_of_report(request.scores, request.scored_as, named.trainer)
        else:
            source = TRAINED_ON if "all" in named.folds else "validation of the folds, cases pooled"
            scores = scores_of_validation(folder, named.folds, dataset_json)
        files = dict(_files(folder, request)) | _plans_with_axes(folder, plans, dataset_json, work)
        trainer = find_trainer(named.trainer, str(folder))
        streams = streams_read_by(trainer, plans, named.configuration, dataset_json)
        temperature = read_temperature(folder) if TEMPERATURE in files else None
        sums = {name: sha256_of(file) for name, file in tqdm(files.items(), desc="Hashing", disable=not named.progress)}
        card = {
            **make_card(request, plans, dataset_json, scores, source, streams, temperature),
            "files": sums,
        }
        inner = f"{named.dataset or 'Model'}/{named.trainer}__{named.plans}__{named.configuration}"
        texts = {CARD: json.dumps(card, indent=2), "MODEL_CARD.md": as_markdown(card) + "\n"}

        def write(name: str) -> None:
            with zipfile.ZipFile(name, "w", allowZip64=True) as opened:
                for text, content in texts.items():
                    opened.writestr(f"{inner}/{text}", content, zipfile.ZIP_DEFLATED)
                for member, file in tqdm(files.items(), desc="Packing", disable=not named.progress):
                    packed = zipfile.ZIP_DEFLATED if file.suffix == ".json" else zipfile.ZIP_STORED  # weights are noise
                    opened.write(file, f"{inner}/{member}", packed)

        write_atomically(request.output, write, _is_whole)
    for what in (LICENCE, USE):
        if not getattr(request, what):
            print(f"The card says nothing of the {what.replace('_', ' ')}: give --{what}, whoever gets it will ask.")
    return sha256_of(request.output)


def _files(folder: Path, request: ExportRequest) -> Iterator[tuple[str, Path]]:
    for name in BESIDE_FOLDS:
        if (folder / name).is_file() and not (name == TEMPERATURE and _is_of_other_folds(folder, request)):
            yield name, folder / name
    for fold in request.model.folds:
        file = find_checkpoint(folder, fold, request.model.checkpoint)
        yield f"fold_{fold}/{file.name}", file


def _is_of_other_folds(folder: Path, request: ExportRequest) -> bool:
    others = not_fitted_on(folder, request.model.folds)
    if others:
        remark(f"{folder / TEMPERATURE} was not fitted on the folds {' '.join(others)}, and is left out.")
    return bool(others)


def _plans_with_axes(folder: Path, plans: dict, dataset_json: dict, work: Path) -> dict[str, Path]:
    """Write plans that say along which axes the training cases were stored, where validations alone say so."""
    axes = axes_of_model(folder, plans, dataset_json)
    if axes is None or axes in (recorded_axes(dataset_json), plans.get("xmodal", {}).get("stored_axes")):
        return {}
    file = work / "plans.json"
    write_json({**plans, "xmodal": {**plans.get("xmodal", {}), "stored_axes": axes}}, file)
    return {file.name: file}


def _is_whole(name: str) -> bool:
    with zipfile.ZipFile(name) as opened:
        return opened.testzip() is None
