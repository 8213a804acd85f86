"""Validation cases of every fold without a stream: left out, made by CMFT, or set to zero for stock nnU-Net.

    python benchmarks/experiments/missing_modality.py -d 501 -c 2d -tr nnUNetTrainerAnyStreams \\
        --cmft nnUNetTrainerCMFTPaired -o missing

Every case is predicted by the models of the fold that it was validated in, CMFT's included, with nnUNetXModal_predict:

- each trainer of -tr with all channels, and without each stream with `--allow_missing` and with `--impute`;
- the --stock trainer with all channels, and without each stream with zeros in its place and with `--impute`.

Prints mean Dice ± standard deviation over the cases of all folds, per label or region, by the metrics of
nnUNetXModal_compare. Predictions stay in the output folder, and the same command goes on where it was interrupted.
"""

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk
from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

from nnunet_xmodal.commands.one_sentence import one_sentence_errors
from nnunet_xmodal.commands.predict import main as predict
from nnunet_xmodal.comparison.case_cache import CaseCache
from nnunet_xmodal.comparison.case_table import case_table
from nnunet_xmodal.comparison.cross_validation import read_predictions
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.evaluation.case_metrics import MetricSettings
from nnunet_xmodal.evaluation.empty_labels import with_rule
from nnunet_xmodal.evaluation.summary import summarise
from nnunet_xmodal.files.complete import is_complete
from nnunet_xmodal.files.environment import require_variables
from nnunet_xmodal.files.volume_writer import write_volume


@dataclass(frozen=True)
class Row:
    """
    Attributes:
        missing: channels that the cases lack.
        instead: "left out", "imputed", "zeros", or "" where nothing is missing.
    """

    trainer: str
    missing: tuple[int, ...] = ()
    instead: str = ""

    def title(self, names: Sequence[str]) -> str:
        """Name the row: the trainer, what is missing, and what takes its place."""
        lacking = f", no {'+'.join(names[channel] for channel in self.missing)}: {self.instead}"
        return self.trainer + (lacking if self.missing else "")


def rows_of(trainers: Sequence[str], stock: str | None, streams: list[list[int]], with_cmft: bool) -> Iterator[Row]:
    """Yield the rows of all trainers, complete first."""
    imputed = ["imputed"] if with_cmft else []
    for trainer in [*trainers, *([stock] if stock else [])]:
        yield Row(trainer)
        for channels in streams:
            for instead in ["zeros" if trainer == stock else "left out", *imputed]:
                yield Row(trainer, tuple(channels), instead)


def write_images(raw: Path, cases: Sequence[str], ending: str, n_channels: int, row: Row, folder: Path) -> None:
    """Write the cases as the row has them."""
    for case in cases:
        for channel in range(n_channels):
            source = raw / "imagesTr" / f"{case}_{channel:04d}{ending}"
            if channel not in row.missing:
                shutil.copy(source, folder)
            elif row.instead == "zeros":
                image = sitk.ReadImage(str(source))
                write_volume(image * 0, folder / source.name)


def predict_row(
    row: Row, names: Sequence[str], raw: Path, splits: list[dict], args: argparse.Namespace, trained_on: str = ""
) -> Path:
    """Predict the row with every fold; return the folder of the predictions.

    Args:
        raw: folder of the dataset whose images are predicted.
        trained_on: dataset that the models were trained on; "" for the same.
    """
    dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    output = args.o / row.title(names).replace(": ", ", ").replace(", ", "__").replace(" ", "_")
    ending = dataset_json["file_ending"]
    for number in args.f:
        cases = [case for case in splits[number]["val"] if not is_complete(output / f"{case}{ending}")]
        if not cases:
            continue
        images = args.o / "images"
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir(parents=True)
        write_images(raw, cases, ending, len(names), row, images)
        words = [
            "-i",
            images,
            "-o",
            output,
            "-d",
            trained_on or raw.name,
            "-c",
            args.c,
            "-p",
            args.p,
            "-tr",
            row.trainer,
            "-f",
        ]
        words += [number, "-device", args.device, "-npp", 0, "-nps", 0, "--disable_progress_bar"]
        words += ["--disable_tta"] if args.disable_tta else []
        if row.instead == "left out":
            words += ["--allow_missing"]
        elif row.instead == "imputed":
            words += ["--impute", model_folder(trained_on or raw.name, args.cmft, args, args.cmft_c or args.c)]
        predict([str(word) for word in words])
        shutil.rmtree(images)
    return output


def model_folder(dataset: str, trainer: str, args: argparse.Namespace, configuration: str) -> Path:
    """Return where nnU-Net keeps the model."""
    return Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{args.p}__{configuration}"


def streams_of_model(folder: Path) -> list[list[int]]:
    """Read the streams from a model's plans.

    Raises:
        XModalError: without a trained model.
    """
    file = folder / "plans.json"
    if not file.is_file():
        raise XModalError(f"there is no trained model in {folder}: train it, or check -d, -tr, -p and -c.")
    return json.loads(file.read_text(encoding="utf-8"))["xmodal"]["streams"]


@one_sentence_errors
def main() -> None:
    """Run the benchmark; see the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", required=True, help="dataset, number or name")
    parser.add_argument("-c", default="2d", help="configuration (default: 2d)")
    parser.add_argument("-p", default="nnUNetPlans", help="plans")
    parser.add_argument("-f", nargs="+", type=int, default=[0, 1, 2, 3, 4], help="folds (default: all five)")
    parser.add_argument("-tr", nargs="+", default=["nnUNetTrainerAnyStreams"], help="trainers with stream dropout")
    parser.add_argument("--stock", default="nnUNetTrainer", help="trainer without ('' for none)")
    parser.add_argument("--cmft", default="nnUNetTrainerCMFTPaired", help="trainer that makes a stream ('' for none)")
    parser.add_argument("--cmft_c", help="its configuration (default: that of -c)")
    parser.add_argument("--disable_tta", action="store_true", help="no mirroring, as nnUNetXModal_predict has it")
    parser.add_argument("-device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("-o", type=Path, required=True, help="folder of the predictions")
    args = parser.parse_args()
    require_variables("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
    dataset = maybe_convert_to_dataset_name(int(args.d) if args.d.isdecimal() else args.d)
    raw = Path(os.environ["nnUNet_raw"]) / dataset
    dataset_json = json.loads((raw / "dataset.json").read_text(encoding="utf-8"))
    splits = json.loads((Path(os.environ["nnUNet_preprocessed"]) / dataset / "splits_final.json").read_text("utf-8"))
    names = channel_names_of(dataset_json)
    streams = streams_of_model(model_folder(dataset, args.tr[0], args, args.c))
    rows = list(rows_of(args.tr, args.stock, streams, bool(args.cmft)))
    models = [
        read_predictions(row.title(names), predict_row(row, names, raw, splits, args), dataset_json) for row in rows
    ]
    cases = sorted(case for number in args.f for case in splits[number]["val"])
    cache = CaseCache(args.o / "cache")
    table, metrics = case_table(models, cases, raw / "labelsTr", MetricSettings(), cache, processes=1)
    summary = summarise(with_rule(table, "nan", metrics), metrics)
    dice = summary[summary["metric"] == "Dice"]
    labels = list(dict.fromkeys(dice["label"]))
    print(f"\n{dataset}, {args.c}, {len(cases)} cases of folds {', '.join(map(str, args.f))}, Dice\n")
    print(f"| | {' | '.join(labels)} |\n|---|{'--:|' * len(labels)}")
    for model in models:
        of_model = dice[dice["model"] == model.name].set_index("label")
        cells = []
        for label in labels:
            mean, sd = of_model.loc[label, ["mean", "sd"]]
            cells.append(f"{mean:.3f}" if sd != sd else f"{mean:.3f} ± {sd:.3f}")
        print(f"| {model.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
