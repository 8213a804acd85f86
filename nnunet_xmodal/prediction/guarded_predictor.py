"""The base of all predictors: made from a request, trusting nothing in a model folder before it is checked."""

import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.label_handling.label_handling import LabelManager
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_files import check_model
from nnunet_xmodal.files.trusted_checkpoints import only_weights
from nnunet_xmodal.prediction.building import building
from nnunet_xmodal.prediction.memory_limit import MemoryLimit
from nnunet_xmodal.prediction.options import NoOptions, read_options
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.trained_axes import RECORDED, follow_axes_of_training

_OF_ANOTHER_NETWORK = ("loading state_dict", "unexpected keyword argument", "required positional argument")
"""In what torch and Python say of weights and arguments that a network has not, or lacks."""


class GuardedPredictor(nnUNetPredictor):
    """nnU-Net's predictor as `predict` uses it: `from_request`, `check`, `load`, `follow_axes`, `predict_folder`.

    Attributes:
        options_class: dataclass of what a request of this kind may hold beyond what all requests hold.
        on_one_grid: whether all images of a case share a grid.
        turns: when cases are turned to the axes of the training, see `trained_axes`.
        options: those of the request.
        memory_limit: of the request; None for none.
        bounds_memory: whether it keeps to such a limit.
    """

    plans_manager: PlansManager
    configuration_manager: ConfigurationManager
    label_manager: LabelManager
    dataset_json: dict
    network: nn.Module
    list_of_parameters: list[dict]
    allowed_mirroring_axes: Sequence[int] | None
    allow_tqdm: bool

    options_class: type = NoOptions
    on_one_grid = True
    turns = RECORDED
    options: Any = NoOptions()
    memory_limit: MemoryLimit | None = None
    bounds_memory = False

    @classmethod
    def from_request(cls, request: PredictionRequest) -> "GuardedPredictor":
        """Make a predictor without a model.

        Raises:
            XModalError: for a device that is not there, and an option of another kind of model.
        """
        if request.max_memory is not None and not cls.bounds_memory:
            raise XModalError(
                f"--max_memory bounds predictions of label maps, which {request.trainer} does not make: leave it out; "
                "-npp 0 -nps 0 let one process do everything."
            )
        predictor = cls(
            tile_step_size=request.step_size,
            use_gaussian=True,
            use_mirroring=request.mirroring,
            perform_everything_on_device=request.on_device,
            device=_device(request.device),
            verbose=request.verbose,
            verbose_preprocessing=request.verbose,
            allow_tqdm=request.progress,
        )
        if request.max_memory is not None:
            predictor.memory_limit = MemoryLimit(request.max_memory, request.output)
        predictor.take_options(request)
        return predictor

    @classmethod
    def described_label_maps(cls, request: PredictionRequest, dataset_json: Mapping) -> Mapping | None:
        """Return the dataset.json whose labels the written label maps have; None for models that write none.

        Args:
            dataset_json: of the model.
        """
        return None

    def take_options(self, request: PredictionRequest) -> None:
        """Take what a request says to this kind of model.

        Raises:
            XModalError: for an option of another kind of model.
        """
        self.options = read_options(self.options_class, request.options, request.trainer)

    def prepare(self, request: PredictionRequest, model: Path) -> None:
        """Check a request, and read what the model's folder says, before the model is loaded.

        Raises:
            XModalError: for what does not fit the model.
        """

    def load(self, request: PredictionRequest, model: Path) -> None:
        """Load the folds of a model.

        Raises:
            XModalError: before anything is built, for files that are missing, cut or not trusted.
        """
        self.initialize_from_trained_model_folder(str(model), list(request.folds), request.checkpoint)

    def follow_axes(self, request: PredictionRequest, model: Path) -> None:
        """Let the request's cases be turned as the model's training cases lay.

        Raises:
            XModalError: see `follow_axes_of_training`.
        """
        follow_axes_of_training(self, model, request)

    def predict_folder(self, request: PredictionRequest) -> None:
        """Check the images of a request, then predict them.

        Raises:
            XModalError: before anything is written, for the first faulty case.
        """
        raise NotImplementedError

    def followed(self, cases: Iterable[dict]) -> Iterator[dict]:
        """Yield preprocessed cases as they are predicted, one after the other; for predictors that write more of each.

        Args:
            cases: of nnU-Net's data iterator, with "data", "ofile" and "data_properties".
        """
        yield from cases

    def option_in_file(self, name: str, value: Any, case: str, folder: Path) -> Any:
        """Return what a request holds for an option that is given in memory; the opposite of `read_result`.

        Args:
            name, value: of the option; images are in files by then.
            folder: for what has to lie in a file; made if it is needed.

        Raises:
            XModalError: for a value that the option does not take.
        """
        return value

    def read_result(self, case: str, output: Path) -> Any:
        """Read what `predict_folder` has written of a case.

        Args:
            output: the request's folder.

        Returns:
            An image, images by channel, or a transform, as the kind of model has it.
        """
        raise NotImplementedError

    def initialize_from_trained_model_folder(
        self,
        model_training_output_dir: str,
        use_folds: Sequence[int | str] | int | str | None,
        checkpoint_name: str = "checkpoint_final.pth",
    ) -> None:
        """Load a model as nnU-Net does.

        Raises:
            XModalError: before anything is built, for files that are missing, cut or not trusted, see `--trust`.
        """
        if use_folds is None:
            use_folds = nnUNetPredictor.auto_detect_available_folds(model_training_output_dir, checkpoint_name)
        folds = [use_folds] if isinstance(use_folds, int | str) else list(use_folds)
        check_model(Path(model_training_output_dir), folds, checkpoint_name)
        with only_weights(), building("predictor"), _explained(Path(model_training_output_dir)):
            super().initialize_from_trained_model_folder(model_training_output_dir, folds, checkpoint_name)
        # here, for nnU-Net moves it within inference mode, behind which no gradient passes: Grad-CAM needs some
        self.network.to(self.device)
        for fold, weights in zip(folds, self.list_of_parameters):
            _check_finite(weights, Path(model_training_output_dir) / f"fold_{fold}" / checkpoint_name)


def _check_finite(weights: Mapping[str, torch.Tensor], file: Path) -> None:
    """Refuse weights with which everything would be background, without a word."""
    for name, weight in weights.items():
        if weight.is_floating_point() and not torch.isfinite(weight).all():
            raise XModalError(
                f"{file} holds NaN or infinite weights ({name}): the training has diverged, or the file is damaged; "
                "take another checkpoint with -chk, or train again."
            )


@contextmanager
def _explained(model: Path) -> Iterator[None]:
    """Say it in a sentence where a network and its weights are those of two models."""
    try:
        yield
    except (RuntimeError, TypeError) as error:
        words = str(error).strip().splitlines()
        if not words or not any(sign in words[0] for sign in _OF_ANOTHER_NETWORK):
            raise
        reason = " ".join(" ".join(words[:2]).split()).rstrip(".")
        raise XModalError(
            f"plans.json and the checkpoints in {model} are not of one network ({reason}): copy the model anew."
        ) from error


def _device(name: str) -> torch.device:
    if name == "cuda":
        if not torch.cuda.is_available():
            raise XModalError("there is no CUDA device: add -device cpu.")
        # as nnU-Net does: threads of torch do not help a GPU
        torch.set_num_threads(1)
    elif name == "mps" and not torch.backends.mps.is_available():
        raise XModalError("there is no mps device: add -device cpu.")
    elif name == "cpu":
        torch.set_num_threads(multiprocessing.cpu_count())
    return torch.device(name)
