"""From scans as they are to predictions on the grid of one of them, by any model whose channels share a grid.

Scans are prepared as `nnUNetXModal_prepare` does it, into a temporary folder on the output's disk, and predicted as any
other images.
"""

from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal import discovery
from nnunet_xmodal.datasets.streams import distinct_channel_names
from nnunet_xmodal.datasets.target_channel import input_names
from nnunet_xmodal.errors import XModalError, first_of
from nnunet_xmodal.files.claim import claimed
from nnunet_xmodal.files.dicom_kinds import is_dicom
from nnunet_xmodal.files.dicom_libraries import load_dicom_libraries
from nnunet_xmodal.files.dicom_seg import write_dicom_seg
from nnunet_xmodal.files.folders import check_output_folder
from nnunet_xmodal.files.model_files import read_model_dataset_json, read_model_plans
from nnunet_xmodal.files.parallel import run_all
from nnunet_xmodal.files.pictures import reads_pictures
from nnunet_xmodal.files.remarks import repeated_remarks
from nnunet_xmodal.files.segment_codes import Segment, segments_of
from nnunet_xmodal.files.temporary import temporary_folder
from nnunet_xmodal.files.trust import trusting
from nnunet_xmodal.predict import predict_cases, predictor_class
from nnunet_xmodal.prediction.model_place import opened_model
from nnunet_xmodal.prediction.request import PredictionRequest
from nnunet_xmodal.preparation.case import prepare_case
from nnunet_xmodal.preparation.case_inputs import read_scan
from nnunet_xmodal.preparation.case_task import CaseTask
from nnunet_xmodal.preparation.cases_and_settings import cases_and_settings
from nnunet_xmodal.preparation.dataset_json import FILE_ENDING
from nnunet_xmodal.preparation.record import FOLDER, read_records
from nnunet_xmodal.preparation.report import FAULT
from nnunet_xmodal.preparation.request import PreparationRequest
from nnunet_xmodal.preparation.sources import SourceCase
from nnunet_xmodal.scans_request import ScansRequest

_NAME = "Dataset000_Scans"


@repeated_remarks()
def predict_scans(request: ScansRequest) -> None:
    """Prepare every case, then predict all.

    Raises:
        XModalError: before anything is predicted, for channels that are not the model's, scans that cannot be prepared
            (the first of which is described), models that read each image on a grid of its own, and DICOM segmentations
            without their libraries or of models that write no label maps.
    """
    if request.dicom_seg:
        load_dicom_libraries("--dicom_seg writes DICOM segmentations")
    discovery.register()
    asked = request.prediction
    check_output_folder(asked.output)
    with (
        trusting(asked.trust),
        claimed(asked.output, asked.part),
        opened_model(asked) as (named, model),
        temporary_folder(asked.output) as work,
    ):
        dataset_json = read_model_dataset_json(model)
        _check_kind(named, dataset_json)
        segments = _segments(named, dataset_json) if request.dicom_seg else []
        channels = _channels(request, input_names(distinct_channel_names(dataset_json), read_model_plans(model)))
        cases = _prepared(replace(request, channels=channels), work)
        predict_cases(replace(named, images=work / "imagesTs"), model, FILE_ENDING)
        if request.dicom_seg:
            _write_dicom_segs(cases, request.reference or channels[0].partition("=")[0], segments, named)


def _check_kind(request: PredictionRequest, dataset_json: dict) -> None:
    if not predictor_class(request.trainer).on_one_grid:
        raise XModalError(
            f"models of {request.trainer} read both images as they are: give their folder with -i, as "
            "<case>_0000 and <case>_0001, in the place of --scans."
        )
    if reads_pictures(dataset_json):
        raise XModalError(f"the model reads pictures ({dataset_json['file_ending']}), and scans are volumes: give -i.")


def _segments(request: PredictionRequest, dataset_json: dict) -> list[Segment]:
    """Return what the DICOM segmentations of a model hold.

    Raises:
        XModalError: for a model that writes no label maps, and see `segments_of`.
    """
    described = predictor_class(request.trainer).described_label_maps(request, dataset_json)
    if described is None:
        raise XModalError(
            f"--dicom_seg is made of label maps, and models of {request.trainer} write none: leave it out."
        )
    return segments_of(described)


def _channels(request: ScansRequest, names: list[str]) -> list[str]:
    """Return the channels in the model's order.

    Raises:
        XModalError: for a channel that the model does not read, and one that is not named.
    """
    given = {word.partition("=")[0]: word for word in request.channels}
    if not given and request.scans.suffix.lower() == ".csv":
        return names
    for name in given:
        if name not in names:
            raise XModalError(f"--channels names {name}, and the model reads {', '.join(names)}: use its names.")
    for name in names:
        if name not in given:
            raise XModalError(
                f"--channels lacks {name}: the model reads {', '.join(names)}, as in --channels {name}=*."
            )
    return [given[name] for name in names]


def _prepared(request: ScansRequest, work: Path) -> list[SourceCase]:
    asked = request.prediction
    cases, settings = cases_and_settings(
        PreparationRequest(
            input=request.scans,
            output=_NAME,
            channels=request.channels,
            reference=request.reference,
            register=request.register,
            transform=request.transform or None,
            landmarks=request.landmarks or None,
        )
    )
    cases = [replace(case, label=None) for case in cases]
    (work / FOLDER / "records").mkdir(parents=True)
    tasks = [CaseTask(case, settings, work, fingerprint="") for case in cases]
    run_all(prepare_case, tasks, asked.checking_processes, "Preparing")
    rows = [row for record in read_records(work).values() for row in record.rows]
    faults = [f"{row['case']}: {row['note']}" for row in rows if row["status"] == FAULT]
    if faults:
        raise XModalError(first_of(faults))
    for row in rows:
        if row.get("note"):
            print(f"{row['case']}, {row['channel']}: {row['note']}")
    return cases


def _write_dicom_segs(
    cases: list[SourceCase], reference: str, segments: list[Segment], request: PredictionRequest
) -> None:
    faults = []
    for case in cases:
        try:
            _write_dicom_seg(case, reference, segments, request)
        except XModalError as error:  # the others are written
            faults.append(f"{case.name} has a label map and no DICOM segmentation: {error}")
    if faults:
        raise XModalError(first_of(faults))


def _write_dicom_seg(case: SourceCase, reference: str, segments: list[Segment], request: PredictionRequest) -> None:
    """Write CASE.dcm beside a label map whose reference is DICOM; tell of others."""
    source, predicted = case.images[reference], request.output / f"{case.name}{FILE_ENDING}"
    if not predicted.is_file():  # of another part
        return
    files = _dicom_files(source)
    if not files:
        print(f"{case.name}: {source} is no DICOM, so that there is no series to refer to, and no DICOM segmentation.")
        return
    labels = sitk.ReadImage(str(predicted))
    labels.CopyInformation(read_scan(source).image)  # in double precision, as DICOM has it
    write_dicom_seg(labels, files, segments, request.output / f"{case.name}.dcm", request.trainer)


def _dicom_files(source: Path) -> list[Path]:
    if source.is_file():
        return [source] if is_dicom(source) else []
    scan = read_scan(source)
    if scan.slices:
        return list(scan.slices)
    return [file for file in sorted(source.iterdir()) if file.is_file() and file.name[0] != "." and is_dicom(file)]
