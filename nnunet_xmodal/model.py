"""A trained model that stays in memory: images in, a label map (or a map, images, a transform) out.

Every call goes the way of `nnUNetXModal_predict`, checks included, through files in a temporary folder: what is
returned is what the command would have written. A call works on a copy of the predictor, which shares the networks and
leaves nothing behind.
"""

import shutil
import weakref
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, redirect_stdout
from copy import copy
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any

import SimpleITK as sitk
import torch

from nnunet_xmodal import discovery
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.datasets.target_channel import input_names
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_zip import read_card
from nnunet_xmodal.files.pictures import reads_pictures
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.geometry.resampling import same_grid
from nnunet_xmodal.predict import predictor_class
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.model_place import opened_model
from nnunet_xmodal.prediction.request import PredictionRequest

_CASE = "case"
_ENDING = ".nii"  # no time for compression


class Model:
    """A loaded model; make it by `load`, call it as often as you like, and leave it by `close` or `with`.

    Attributes:
        channels: names of the images that a call takes.
        dataset_json: what labels mean, for one.
        card: of `nnUNetXModal_export`; None for a model without.
    """

    def __init__(self, predictor: GuardedPredictor, request: PredictionRequest, folder: Path, open_: ExitStack) -> None:
        self.dataset_json: dict = predictor.dataset_json
        self.channels: list[str] = input_names(distinct_channel_names(self.dataset_json), predictor.plans_manager.plans)
        self.card: dict[str, Any] | None = read_card(folder)
        self._predictor, self._request, self._folder = predictor, request, folder
        self._close = weakref.finalize(self, open_.close)

    @classmethod
    def load(
        cls,
        place: str | Path,
        *,
        trainer: str = "",
        plans: str = "",
        configuration: str = "",
        folds: Sequence[int | str] = (),
        checkpoint: str = "checkpoint_final.pth",
        device: str | None = None,
        step_size: float = 0.5,
        mirroring: bool = True,
        max_memory: float | None = None,
        trust: bool = False,
    ) -> "Model":
        """Load a model; none of nnU-Net's variables is needed.

        Args:
            place: folder of a trained model, one with several, or a zip.
            trainer, plans, configuration: of the model, where there are several.
            folds: numbers or "all", which are averaged; () for all that are there.
            checkpoint: name of the file in a fold's folder.
            device: "cuda", "cpu" or "mps"; None for CUDA where there is one.
            step_size: of the sliding window, as a share of the patch.
            mirroring: average over mirrored copies where the training mirrored.
            max_memory: in GB; results lie on the disk where they do not fit, see `PredictionRequest`.
            trust: believe the model's files, which may then run code of whoever made them.

        Raises:
            XModalError: for a model that is not there, cut, or could run code, see documentation/security.md.
        """
        discovery.register()
        with ExitStack() as stack:
            work = stack.enter_context(temporary_folder())
            asked = PredictionRequest(
                images=work / "images",
                output=work / "output",
                trainer=trainer,
                plans=plans,
                configuration=configuration,
                folds=tuple(folds),
                checkpoint=checkpoint,
                step_size=step_size,
                mirroring=mirroring,
                max_memory=max_memory,
                device=device or ("cuda" if torch.cuda.is_available() else "cpu"),
                preprocessing_processes=0,
                export_processes=0,
                progress=False,
                model=Path(place),
                trust=trust,
            )
            with trusting(trust), redirect_stdout(StringIO()):
                request, folder = stack.enter_context(opened_model(asked))
                predictor = predictor_class(request.trainer).from_request(request)
                predictor.load(request, folder)
                _check_reads_volumes(predictor.dataset_json)
            return cls(predictor, request, folder, stack.pop_all())

    def __call__(
        self, images: Mapping[str, sitk.Image], *, previous_stage: sitk.Image | None = None, **options: Any
    ) -> Any:
        """Predict one case.

        Args:
            images: channel → three-dimensional image. Segmentation, synthesis and reconstruction take all on one grid;
                registration takes the fixed image and the moving one, wherever they lie.
            previous_stage: label map of the first stage of a cascade.
            options: of the model's kind, as the flags of `nnUNetXModal_predict`; what is a folder with a file of each
                case there is an image here: `roi=mask`; and `extents={"liver": (8, 19)}` of few-shot models, slices of
                the image counted from 0.

        Returns:
            The label map of a model that segments, on the grid of the images; of others the map (reconstruction),
            channel → image (synthesis), or the transform, fixed → moving point in mm (registration).

        Raises:
            XModalError: for images that are missing, unknown or faulty, and options of another kind of model.
        """
        self._check(images)
        work = self._request.images.parent
        try:
            for number, name in enumerate(self.channels):
                if name in images:
                    _write(images[name], work / "images" / f"{_CASE}_{number:04d}{_ENDING}")
            given = {name: self._in_file(name, value, work / "options" / name) for name, value in options.items()}
            stage = None if previous_stage is None else Path(_as_folder(previous_stage, work / "previous_stage"))
            request = replace(self._request, options=given, previous_stage=stage)
            result = self._predicted(request)
        finally:
            for folder in work.iterdir():
                shutil.rmtree(folder, ignore_errors=True)
        return _like(result, next(iter(images.values())))

    def close(self) -> None:
        """Remove what was unpacked; the model cannot be called any more."""
        self._close()

    def __enter__(self) -> "Model":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _predicted(self, request: PredictionRequest) -> Any:
        predictor = copy(self._predictor)
        predictor.dataset_json = {**self.dataset_json, "file_ending": _ENDING}
        with trusting(request.trust), redirect_stdout(StringIO()):
            predictor.take_options(request)
            predictor.prepare(request, self._folder)
            predictor.follow_axes(request, self._folder)
            predictor.predict_folder(request)
        return predictor.read_result(_CASE, request.output)

    def _in_file(self, name: str, value: Any, folder: Path) -> Any:
        return self._predictor.option_in_file(name, _as_folder(value, folder), _CASE, folder)

    def _check(self, images: Mapping[str, sitk.Image]) -> None:
        known = ", ".join(self.channels)
        if not images:
            raise XModalError(f"there is no image: give those of {known}.")
        for name, image in images.items():
            if name not in self.channels:
                raise XModalError(f"the model reads no channel {name}: it reads {known}.")
            if not isinstance(image, sitk.Image) or image.GetDimension() != 3:
                raise XModalError(f"{name} is no three-dimensional SimpleITK image: read it with sitk.ReadImage.")


def _check_reads_volumes(dataset_json: dict) -> None:
    if reads_pictures(dataset_json):
        raise XModalError(
            f"the model reads pictures ({dataset_json['file_ending']}), and images in memory are volumes: give their "
            "folder to nnUNetXModal_predict -i."
        )


def _write(image: sitk.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_volume(image, file)


def _as_folder(value: Any, folder: Path) -> Any:
    """Put an image where a flag of the command takes a folder of them; other values stay."""
    if not isinstance(value, sitk.Image):
        return value
    _write(value, folder / f"{_CASE}{_ENDING}")
    return str(folder)


def _like(result: Any, image: sitk.Image) -> Any:
    """Put results exactly where the image lies, whose numbers a file has rounded to single precision."""
    for made in result.values() if isinstance(result, dict) else [result]:
        if isinstance(made, sitk.Image) and same_grid(made, image):
            made.CopyInformation(image)
    return result
