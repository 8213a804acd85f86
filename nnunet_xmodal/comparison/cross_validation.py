"""What a trained model left: its validation cases over folds; or a folder of predictions from elsewhere."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PureWindowsPath

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.metrics import COUNTS, Direction
from nnunet_xmodal.files.dataset_json import read_dataset_json as read_dataset_json_as_nnunet
from nnunet_xmodal.files.dataset_labels import check_labels
from nnunet_xmodal.files.folders import check_input_folder
from nnunet_xmodal.files.json_files import read_json
from nnunet_xmodal.files.labels import foreground, name_of_key
from nnunet_xmodal.files.remarks import remark

Reported = Mapping[str, Mapping[str, float]]
"""Label or region by name → metric → value, as in a `summary.json`."""


@dataclass(frozen=True)
class CaseResult:
    """The result of one case of one model.

    Attributes:
        fold: "0" … "4", "all", or "" for a folder of predictions.
        prediction: its label map; None for results that are no segmentations.
        reported: metrics of nnU-Net's summary, without numbers of voxels; empty for a folder.
    """

    fold: str
    case: str
    prediction: Path | None
    reported: Reported = field(default_factory=dict)


@dataclass
class ModelResults:
    """The results of one model: a cross-validation, or a folder of predictions.

    Attributes:
        folder: of the model or of the predictions.
        cases: case → result; a case is validated in one fold, with `-f all` in that.
        missing: what could not be found, in words that name the file.
        directions: metric → "higher" or "lower", for metrics that are not nnU-Net's.
    """

    name: str
    folder: Path
    dataset_json: dict
    cases: dict[str, CaseResult] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    directions: dict[str, Direction] = field(default_factory=dict)
    is_cross_validation: bool = True

    @property
    def folds(self) -> list[str]:
        """Return the names of the folds, sorted."""
        return sorted({result.fold for result in self.cases.values()})

    def adopt_folds(self, folds: Mapping[str, str]) -> None:
        """Sort predictions from elsewhere into the folds of a cross-validation.

        Args:
            folds: case → fold.
        """
        for case, fold in folds.items():
            self.cases[case] = replace(self.cases[case], fold=fold)

    @property
    def is_segmentation(self) -> bool:
        """Return whether any case has a label map."""
        return any(result.prediction is not None for result in self.cases.values())


def read_model(name: str, folder: Path, folds: Sequence[int | str]) -> ModelResults:
    """Read the results of a trained model.

    Args:
        folder: `nnUNet_results/DATASET/TRAINER__PLANS__CONFIGURATION`.

    Raises:
        XModalError: without such a model, for a summary that cannot be read, and for one that does not fit the files
            beside it.
    """
    if not (folder / "dataset.json").is_file():
        raise XModalError(f"there is no trained model in {folder}: train it, or check -d, -tr, -p and -c.")
    model = ModelResults(name, folder, read_dataset_json(folder / "dataset.json"))
    for fold in dict.fromkeys(folds):
        validation = folder / f"fold_{fold}" / "validation"
        file = validation / "summary.json"
        if not file.is_file():
            model.missing.append(f"{file} is missing")
            continue
        summary = _read_json(file)
        try:
            results = list(_cases_of(summary, str(fold), validation, model.dataset_json))
            directions = dict(summary.get("xmodal", {}).get("directions", {}))
        except XModalError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise XModalError(f"{file} is no summary as nnU-Net writes it ({error!r}): validate again.") from error
        for metric, better in directions.items():
            if better not in ("higher", "lower") or model.directions.setdefault(metric, better) != better:
                raise XModalError(
                    f'{file} has the direction {better!r} for {metric}: use "higher" or "lower", the same in all folds.'
                )
        for result in results:
            if result.case in model.cases:
                other = model.cases[result.case].fold
                if other == result.fold:
                    raise XModalError(f"{file} lists {result.case} twice: validate again.")
                raise XModalError(
                    f"{folder} validated {result.case} in the folds {other} and {fold}: give one of them with -f."
                )
            model.cases[result.case] = result
    return model


def read_predictions(name: str, folder: Path, dataset_json: dict) -> ModelResults:
    """Read a folder of label maps from elsewhere, one file per case.

    Raises:
        XModalError: if there is no folder or no file with the dataset's ending in it.
    """
    ending = dataset_json["file_ending"]
    check_input_folder(folder)
    if not foreground(dataset_json):
        raise XModalError(f"{folder} cannot be compared by a dataset.json without labels: name them there.")
    files = images(folder, ending)
    if not files:
        others = sorted({"".join(file.suffixes[-2:]) for file in folder.iterdir() if file.suffixes})
        found = f", only {', '.join(others[:4])}" if others else ""
        raise XModalError(f"{folder} holds no files that end in {ending}{found}: convert them, or check dataset.json.")
    cases = {case: CaseResult("", case, file) for case, file in files.items()}
    return ModelResults(name, folder, dataset_json, cases, is_cross_validation=False)


def _cases_of(summary: Mapping, fold: str, validation: Path, dataset_json: dict) -> Iterable[CaseResult]:
    labels, ending = foreground(dataset_json), dataset_json["file_ending"]
    files = images(validation, ending)
    listed = set()
    for content in summary["metric_per_case"]:
        case = Path(content["prediction_file"]).name.removesuffix(ending)
        if case not in files:  # the summary may have been written on another system
            case = PureWindowsPath(content["prediction_file"]).name.removesuffix(ending)
        metrics = content["metrics"]
        if not metrics:
            raise XModalError(f"the summary.json in {validation} has no metrics of {case}: validate again.")
        is_segmentation = any("TP" in values for values in metrics.values())
        if is_segmentation and case not in files:
            raise XModalError(f"{validation / (case + ending)} is missing, but summary.json lists it: validate again.")
        listed.add(case)
        reported = {
            name_of_key(key, labels): {name: _number(value) for name, value in values.items() if name not in COUNTS}
            for key, values in metrics.items()
        }
        yield CaseResult(fold, case, files[case] if is_segmentation else None, reported)
    extra = sorted(set(files) - listed)
    if extra:
        raise XModalError(f"{files[extra[0]]} is not in the summary.json beside it: delete it, or validate again.")


def images(folder: Path, ending: str) -> dict[str, Path]:
    """Map cases to their files, without the hidden files that some systems leave beside each."""
    files = [file for file in sorted(folder.iterdir()) if file.name.endswith(ending) and not file.name.startswith(".")]
    return {file.name.removesuffix(ending): file for file in files}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def read_dataset_json(file: Path) -> dict:
    """Read a dataset.json with all that results are read by; tells what nnU-Net could not learn of its labels.

    Raises:
        XModalError: if it cannot be read, or has no labels or file ending as nnU-Net knows them.
    """
    content = read_dataset_json_as_nnunet(file)
    if "labels" not in content or "file_ending" not in content:
        raise XModalError(
            f'{file} is no dataset.json of nnU-Net: it needs "labels" with their values and "file_ending".'
        )
    try:  # label maps from elsewhere are compared whatever nnU-Net could learn of them
        check_labels(content["labels"], content.get("regions_class_order"), str(file))
    except XModalError as error:
        remark(f"label maps are compared as they are, but {error}")
    return content


def _read_json(file: Path) -> dict:
    try:
        return read_json(file)
    except OSError as error:
        raise XModalError(f"{file} cannot be read ({error.strerror}): restore it, or validate again.") from error
