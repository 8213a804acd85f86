"""A missing modality is made of the others by a model of CMFT, for another model that needs it."""

from collections.abc import Sequence
from pathlib import Path

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.datasets.partial_cases import PartialCase
from nnunet_xmodal.datasets.stored_axes import recorded_axes
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.model_files import read_model_dataset_json
from nnunet_xmodal.files.trusted_checkpoints import read_checkpoint
from nnunet_xmodal.files.trusted_names import find_trainer
from nnunet_xmodal.prediction.image_predictor import HOLD_FLOATS
from nnunet_xmodal.prediction.turning import turn_as_trained
from nnunet_xmodal.tasks.synthesis.predictor import SynthesisPredictor, source_cases


class Imputation:
    """A trained pair of generators, ready to make what cases lack.

    What it makes is on the normalised scale of its training, whatever the scale of the real images was: a model reads
    it rightly if it normalises every image by its own mean and standard deviation.

    Args:
        model_folder: `…/nnUNetTrainerCMFT…__<plans>__<configuration>`.
        folds: to average, all of which must be trained: a fold's segmentation model and its generators then have the
            same training cases.
        checkpoint: name of the checkpoint files.
        predictor: of the model that reads what is made.

    Raises:
        XModalError: for a folder without such a model or one of its folds, another dataset's channels, and files that
            hold no floating-point numbers.
    """

    def __init__(
        self, model_folder: str, folds: Sequence[int | str], checkpoint: str, predictor: nnUNetPredictor
    ) -> None:
        self.folder, self.folds = Path(model_folder), list(folds)
        self.predictor = SynthesisPredictor(
            tile_step_size=predictor.tile_step_size,
            use_mirroring=predictor.use_mirroring,
            perform_everything_on_device=predictor.perform_everything_on_device,
            device=predictor.device,
            verbose=predictor.verbose,
            verbose_preprocessing=predictor.verbose_preprocessing,
            allow_tqdm=predictor.allow_tqdm,
        )
        self.predictor.configuration_name = self._configuration(checkpoint)
        self._check_channels(predictor.dataset_json)
        self.predictor.initialize_from_trained_model_folder(str(self.folder), self.folds, checkpoint)
        # files are those of the model that reads what is made, which may be called in memory
        ending = predictor.dataset_json["file_ending"]
        self.predictor.dataset_json = {**self.predictor.dataset_json, "file_ending": ending}
        axes = recorded_axes(self.predictor.dataset_json)
        if axes is not None:
            turn_as_trained(self.predictor, axes)
        pair = self.predictor.network
        if pair.makes["A"] != pair.streams["B"]:
            raise XModalError(self._no_such_model(self.predictor.trainer_name))

    def can_make_what_is_missing(self, case: PartialCase) -> bool:
        """Return whether one of the two streams is complete."""
        return bool(case.given(self._streams))

    def check_has_a_stream(self, case: PartialCase) -> None:
        """Check that one of the two streams is complete.

        Raises:
            XModalError: if neither stream is complete.
        """
        case.check_has_a_stream(self._streams, self.predictor.dataset_json)

    def make(self, cases: list[PartialCase], folder: Path, processes: int) -> list[PartialCase]:
        """Write what the cases lack into `folder`.

        Returns:
            The cases with all channels: files that exist stay, also those of a stream that is otherwise made.
        """
        dataset_json = self.predictor.dataset_json
        self.predictor.synthesise(source_cases(cases, dataset_json, self.predictor.network), folder, processes)
        completed = []
        for case in cases:
            made = {n: folder / f"{case.name}_{n:04d}{dataset_json['file_ending']}" for n in case.missing(dataset_json)}
            completed.append(PartialCase(case.name, dict(sorted((case.files | made).items()))))
        return completed

    def origin(self, case: PartialCase) -> dict:
        """Return who makes what the case lacks, and of what."""
        names = channel_names_of(self.predictor.dataset_json)
        (source,) = source_cases([case], self.predictor.dataset_json, self.predictor.network)
        return {
            "model": str(self.folder),
            "trainer": self.predictor.trainer_name,
            "folds": self.folds,
            "made_of": [names[channel] for channel in source.images],
        }

    @property
    def _streams(self) -> list[list[int]]:
        return list(self.predictor.network.streams.values())

    def _configuration(self, checkpoint: str) -> str:
        """Name of the configuration that the model was trained on; looks at the files before networks are built."""
        for fold in self.folds:
            file = self.folder / f"fold_{fold}" / checkpoint
            if not file.is_file():
                raise XModalError(
                    f"--impute needs {file}, which is missing: name the folder of a model of nnUNetTrainerCMFTPaired, "
                    "and with -f the folds that are trained of both models."
                )
        content = read_checkpoint(file, mmap=True)
        try:
            trainer_name, configuration = content["trainer_name"], content["init_args"]["configuration"]
        except (KeyError, TypeError) as error:
            raise XModalError(f"{file} is no readable checkpoint of nnU-Net ({error!r}): copy it anew.") from error
        trainer = find_trainer(trainer_name, str(file))
        if getattr(trainer, "predictor_class", None) is not SynthesisPredictor:
            raise XModalError(self._no_such_model(trainer_name))
        return configuration

    def _no_such_model(self, trainer_name: str) -> str:
        return (
            f"--impute {self.folder} holds a model of {trainer_name}, which makes no missing modality: name the folder "
            "of a model of nnUNetTrainerCMFTPaired."
        )

    def _check_channels(self, dataset_json: dict) -> None:
        of_model = read_model_dataset_json(self.folder)
        theirs, ours = channel_names_of(of_model), channel_names_of(dataset_json)
        if theirs != ours:
            raise XModalError(
                f"--impute {self.folder} was trained on the channels {', '.join(theirs)}, but the images are "
                f"{', '.join(ours)}: name a model of the same dataset."
            )
        endings = {of_model["file_ending"], dataset_json["file_ending"]}
        if not endings <= set(HOLD_FLOATS):
            raise XModalError(
                f"--impute writes floating-point numbers, but the files end in {' and '.join(sorted(endings))}: "
                f"convert the dataset to one of {', '.join(HOLD_FLOATS)}."
            )
