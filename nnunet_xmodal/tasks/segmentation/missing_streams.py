"""Segmentation of cases that lack channels: their streams are left out, or made by a model of CMFT."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.checks import check_cases
from nnunet_xmodal.datasets.partial_cases import PartialCase
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.networks.of_present_streams import OfPresentStreams, knows_absence
from nnunet_xmodal.prediction.channel_subset import with_channels_only
from nnunet_xmodal.prediction.export import export_prediction
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.preprocessed import preprocessed
from nnunet_xmodal.prediction.provenance import provenance_file, record_origins
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.prediction.whole_cases import predict_files, with_previous_stage
from nnunet_xmodal.replaced import replaced
from nnunet_xmodal.tasks.segmentation.imputation import Imputation
from nnunet_xmodal.tasks.segmentation.options import SegmentationOptions
from nnunet_xmodal.tasks.segmentation.organ_roi import CroppedConfiguration, OrganRoi, crop_to_organ

PROVENANCE = "missing"
"""Beside the predictions: which channels and streams a case lacked, and what stood in their place."""


def predict_partial_cases(
    predictor: GuardedPredictor,
    cases: list[PartialCase],
    request: PredictionRequest,
    options: SegmentationOptions,
    roi: OrganRoi | None = None,
) -> None:
    """Predict cases that lack channels, with `--allow_missing`, `--impute` or both.

    Cases that have all channels are predicted as ever. Of the others, `--impute` makes what is missing, where it can;
    what then still lacks a channel is predicted without the streams that the channel belongs to.

    Args:
        predictor: with its model.
        cases: those of this call.
        options: of the request.
        roi: within which; masks lie on the grid of the streams that a case is predicted from.

    Raises:
        XModalError: before anything is written, for a model that was not trained without streams, faulty images, cases
            that lack all streams, and whatever `Imputation` and `crop_to_organ` say.
    """
    _Prediction(predictor, request, options, roi).run(cases)


class _Prediction:
    def __init__(
        self,
        predictor: GuardedPredictor,
        request: PredictionRequest,
        options: SegmentationOptions,
        roi: OrganRoi | None,
    ) -> None:
        self.predictor, self.request, self.options, self.roi = predictor, request, options, roi
        self.dataset_json = predictor.dataset_json
        self.names = distinct_channel_names(self.dataset_json)
        self.streams: list[list[int]] = []
        if options.allow_missing:
            check_knows_absent_streams(predictor)
            of_model = predictor.plans_manager.plans["xmodal"]
            self.streams = of_model.get("can_be_absent", of_model["streams"])
            if options.attention_maps:
                raise XModalError("--attention_maps shows every stream: leave out --allow_missing, or use --impute.")
        impute, folds = options.impute, list(request.folds)
        self.imputation = Imputation(impute, folds, request.checkpoint, predictor) if impute else None

    def run(self, cases: list[PartialCase]) -> None:
        """Check the cases, then predict them."""
        complete = [case for case in cases if not case.missing(self.dataset_json)]
        lacking = [case for case in cases if case.missing(self.dataset_json)]
        imputed = [case for case in lacking if self.imputation and self.imputation.can_make_what_is_missing(case)]
        partial = [case for case in lacking if case not in imputed]
        for case in partial:
            if self.options.allow_missing:
                case.check_has_a_stream(self.streams, self.dataset_json)
            elif self.imputation is not None:
                self.imputation.check_has_a_stream(case)
        self._check_memory(cases)
        self._check_normalisation(imputed)
        self._check_images(complete + imputed, partial)
        self._crop(complete + imputed, partial)

        output = Path(self.request.output)
        output.mkdir(parents=True, exist_ok=True)
        provenance = provenance_file(PROVENANCE, self.request)
        # beforehand: whatever is interrupted, no prediction passes for one of a complete case
        origins = {case.name: self._origin(case, case in imputed) for case in cases}
        record_origins(origins, provenance)
        self._tell(lacking, origins, provenance)
        with temporary_folder() as folder:
            made = []
            if self.imputation is not None and imputed:
                made = self.imputation.make(imputed, folder, self.request.preprocessing_processes)
            self.imputation = None  # the generators' memory
            self._predict_complete(sorted(complete + made, key=lambda case: case.name))
        for given, group in _grouped(partial, lambda case: case.given(self.streams)):
            self._predict_partial(given, group)

    def _check_memory(self, cases: list[PartialCase]) -> None:
        limit = self.predictor.memory_limit
        if limit is not None:
            read = [Case(case.name, list(case.files.values())) for case in cases]
            limit.check(read, self.predictor, self.request.save_probabilities, bool(self.options.uncertainty))

    def _check_normalisation(self, imputed: list[PartialCase]) -> None:
        schemes = self.predictor.configuration_manager.normalization_schemes
        for case in imputed:
            for channel in case.missing(self.dataset_json):
                if schemes[channel] != "ZScoreNormalization":
                    raise XModalError(
                        f"--impute makes images on the z-score scale, but the model of {self.predictor.trainer_name} "
                        f"reads {self.names[channel]} with {schemes[channel]}: plan it as an MR channel, or complete "
                        f"case {case.name}."
                    )

    def _check_images(self, whole: list[PartialCase], partial: list[PartialCase]) -> None:
        groups = [(channels, group, list(channels)) for channels, group in _grouped(whole, lambda case: [*case.files])]
        for given, group in _grouped(partial, lambda case: case.given(self.streams)):
            groups.append((given, group, self._channels_of(given)))
        for _, group, channels in groups:
            has_all = not group[0].missing(self.dataset_json)
            read = [Case(case.name, [case.files[channel] for channel in channels]) for case in group]
            check_cases(
                with_previous_stage(read, self.request, self.dataset_json),
                self.dataset_json if has_all else self._with_channels(channels)[2],
                self.request.checking_processes,
                self.request.progress,
                doing=f"Checking {len(group)} cases",
            )

    def _crop(self, whole: list[PartialCase], partial: list[PartialCase]) -> None:
        if self.roi is None:
            return
        seen = [Case(case.name, list(case.files.values())) for case in whole]
        for case in partial:
            channels = self._channels_of(case.given(self.streams))
            seen.append(Case(case.name, [case.files[channel] for channel in channels]))
        crop_to_organ(self.predictor, seen, self.roi, self.request.checking_processes, self.request.progress)

    def _channels_of(self, streams: Sequence[int]) -> list[int]:
        return sorted(channel for stream in streams for channel in self.streams[stream])

    def _with_channels(self, channels: Sequence[int]) -> tuple[PlansManager, ConfigurationManager, dict]:
        return with_channels_only(channels, self.predictor.plans_manager, self.request.configuration, self.dataset_json)

    def _origin(self, case: PartialCase, is_imputed: bool) -> dict:
        missing = case.missing(self.dataset_json)
        absent = [] if is_imputed or not missing else set(range(len(self.streams))) - set(case.given(self.streams))
        return {
            "missing_channels": [self.names[channel] for channel in missing],
            "absent_streams": [[self.names[channel] for channel in self.streams[stream]] for stream in sorted(absent)],
            "imputed_by": self.imputation.origin(case) if is_imputed and self.imputation else None,
        }

    def _tell(self, lacking: list[PartialCase], origins: dict[str, dict], provenance: Path) -> None:
        for case in lacking:
            origin = origins[case.name]
            missing, imputed_by = ", ".join(origin["missing_channels"]), origin["imputed_by"]
            if imputed_by:
                instead = f"made of {', '.join(imputed_by['made_of'])} by {imputed_by['trainer']}"
            else:
                instead = f"predicted without {' and '.join('+'.join(stream) for stream in origin['absent_streams'])}"
            print(f"{case.name} has no {missing}: {instead}.")
        print(f"{provenance} tells of every case what was missing.")

    def _predict_complete(self, cases: list[PartialCase]) -> None:
        files = [[str(file) for _, file in sorted(case.files.items())] for case in cases]
        predict_files(self.predictor, files, self.request)

    def _predict_partial(self, given: Sequence[int], cases: list[PartialCase]) -> None:
        request, predictor, channels = self.request, self.predictor, self._channels_of(given)
        images = [[str(case.files[channel]) for channel in channels] for case in cases]
        outputs = [str(Path(request.output) / case.name) for case in cases]
        previous: list[str | None] | None = None
        if request.previous_stage is not None:
            ending = self.dataset_json["file_ending"]
            previous = [str(Path(request.previous_stage) / f"{case.name}{ending}") for case in cases]
        with self._reading_only(channels, [stream in given for stream in range(len(self.streams))]):
            data = preprocessed(predictor, images, outputs, request.preprocessing_processes, previous)
            if request.export_processes > 0:
                predictor.predict_from_data_iterator(data, request.save_probabilities, request.export_processes)
                return
            for case in predictor.followed(data):
                logits = predictor.predict_logits_from_preprocessed_data(case["data"]).cpu()
                properties, file = case["data_properties"], case["ofile"]
                export_prediction(
                    logits,
                    properties,
                    predictor.configuration_manager,
                    predictor.plans_manager,
                    predictor.dataset_json,
                    file,
                    request.save_probabilities,
                )

    @contextmanager
    def _reading_only(self, channels: Sequence[int], present: Sequence[bool]) -> Iterator[None]:
        """Within, the predictor preprocesses these channels as if there were no others: they alone decide the crop."""
        predictor = self.predictor
        plans, configuration, dataset_json = self._with_channels(channels)
        if isinstance(predictor.configuration_manager, CroppedConfiguration):
            configuration = predictor.configuration_manager.around(configuration)
        network = OfPresentStreams(predictor.network, channels, len(self.names), present)
        with replaced(
            predictor,
            plans_manager=plans,
            configuration_manager=configuration,
            dataset_json=dataset_json,
            network=network,
        ):
            yield


def check_knows_absent_streams(predictor: nnUNetPredictor) -> None:
    """Check that a model was trained with streams left out.

    Raises:
        XModalError: for a model that has never been without a stream.
    """
    if not knows_absence(predictor.network):
        raise XModalError(
            f"the model of {predictor.trainer_name} was never trained without a stream: for --allow_missing train "
            "nnUNetTrainerAnyStreams, nnUNetTrainerCSADDropout or nnUNetTrainerCMFFDropout, "
            "or let a model of nnUNetTrainerCMFTPaired make what is missing, with --impute."
        )


def _grouped(
    cases: list[PartialCase], key: Callable[[PartialCase], list[int]]
) -> list[tuple[list[int], list[PartialCase]]]:
    return [(value, list(group)) for value, group in groupby(sorted(cases, key=key), key)]
