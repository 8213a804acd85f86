"""Prediction with networks whose outputs are images: float32 from the tile to the file."""

import os
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from nnunetv2.inference.data_iterators import PreprocessAdapterFromNpy
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from tqdm import tqdm

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.volume_writer import write_volume
from nnunet_xmodal.prediction.guarded_predictor import GuardedPredictor
from nnunet_xmodal.prediction.native_geometry import images_in_native_geometry, with_geometry
from nnunet_xmodal.prediction.preprocessed import preprocessed
from nnunet_xmodal.prediction.tiles import mirrorings, tile_weight

HOLD_FLOATS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""File endings of formats that keep float32 volumes."""


def float_ending(ending: str) -> str:
    """Return the ending of numbers beside images of some ending: the same, or `.nii.gz` where that keeps none."""
    return ending if ending.lower() in HOLD_FLOATS else ".nii.gz"


class ImagePredictor(GuardedPredictor):
    """nnU-Net's predictor for networks that return images, with any number of channels.

    nnU-Net sums tiles in float16 (1–6 % error at the Gaussian's border, infinity from about 6,500), runs the network
    in mixed precision on a GPU, expects a channel per label and writes integers. Here the network runs in float32,
    sums and weights are float32, and files hold float32. Tiles, weights, mirroring, folds and the choice of device,
    with results on the CPU where the GPU's memory does not suffice, are nnU-Net's.

    `predict_from_files` and its relatives write one file per channel, `<case>_<number as four digits><ending>`.

    Attributes:
        channel_numbers: of the written files, one per output channel; None counts from 0.
    """

    channel_numbers: Sequence[int] | None = None

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: list[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        """`(C, *padded)` → images `(output channels, *padded)`; called by nnU-Net with its choice of device.

        Raises:
            XModalError: for NaN or infinity in the result.
        """
        results_device = self.device if do_on_device else torch.device("cpu")
        data = data.to(results_device, torch.float32)
        weight_of_tile = tile_weight(self, results_device)
        weights = torch.zeros(data.shape[1:], device=results_device)
        images = None  # how many channels there are is the network's to say
        # not everywhere, because autocast does not know every device
        exact = torch.autocast("cuda", enabled=False) if self.device.type == "cuda" else nullcontext()
        try:
            with exact:
                for slicer in tqdm(slicers, disable=not self.allow_tqdm):
                    tile = data[slicer][None].to(self.device).contiguous()
                    prediction = self._internal_maybe_mirror_and_predict(tile)[0].to(results_device, torch.float32)
                    if images is None:
                        images = torch.zeros((len(prediction), *data.shape[1:]), device=results_device)
                    images[slicer] += prediction * weight_of_tile
                    weights[slicer[1:]] += weight_of_tile
            images /= weights
        except BaseException:
            # nnU-Net tries again, with results on the CPU, while the error still holds this frame
            tile = prediction = data = images = weights = weight_of_tile = None
            raise
        if not torch.isfinite(images).all():
            raise XModalError(f"the network of {self.trainer_name} returned NaN or infinite voxels.")
        return images

    @torch.inference_mode()
    def _internal_maybe_mirror_and_predict(self, x: torch.Tensor) -> torch.Tensor:
        """The mean over all mirrorings; nnU-Net adds in place, also to an input that a network hands through."""
        copies = mirrorings(self.allowed_mirroring_axes if self.use_mirroring else None)
        return sum(self.network(x.flip(axes)).flip(axes) for axes in copies) / len(copies)

    def preprocessed(self, images: list[list[str]], outputs: list[str], processes: int) -> Iterable[dict]:
        """Preprocess cases for `predict_from_data_iterator`, from files in the order of the plans' channels.

        Args:
            outputs: folder and name of each case.
            processes: that preprocess; with 0 this one does.
        """
        return preprocessed(self, images, outputs, processes)

    def predict_from_data_iterator(
        self,
        data_iterator: Iterable[dict],
        save_probabilities: bool = False,
        num_processes_segmentation_export: int = 1,
    ) -> list[np.ndarray | None]:
        """Write every case's images, or return them, `(channels, *spatial)`, where `ofile` is None.

        Cases are resampled and written in this process: `num_processes_segmentation_export` is ignored.

        Raises:
            XModalError: for `save_probabilities`, which images do not have.
        """
        if save_probabilities:
            raise XModalError(f"the model of {self.trainer_name} predicts images: there are no probabilities to save.")
        results: list[np.ndarray | None] = []
        for case in data_iterator:
            data = case["data"]
            if isinstance(data, str):  # large cases arrive as the name of a file
                file, data = data, torch.from_numpy(np.load(data))
                os.remove(file)
            self.begin(case["data_properties"])
            images = images_in_native_geometry(
                self.predict_logits_from_preprocessed_data(torch.as_tensor(data)).numpy(),
                case["data_properties"],
                self.plans_manager,
                self.configuration_manager,
            )
            images = self.finished(images, case)
            if case["ofile"] is None:
                results.append(images)
                continue
            self.write(images, case)
            results.append(None)
        compute_gaussian.cache_clear()
        return results

    def begin(self, properties: dict) -> None:
        """Prepare for a case before it is predicted, by what nnU-Net's reader and preprocessor have noted about it."""

    def write(self, images: np.ndarray, case: dict) -> None:
        """Write `finished` images; arguments as there."""
        ending = self.dataset_json["file_ending"]
        write_images(images, case["data_properties"], case["ofile"], ending, self.channel_numbers)

    def finished(self, images: np.ndarray, case: dict) -> np.ndarray:
        """Finish images `(channels, *spatial)`, on the case's own grid, before they are written; for subclasses.

        Args:
            case: of nnU-Net's data iterator, with "ofile" and "data_properties".
        """
        return images

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        folder_with_segs_from_prev_stage: str | None = None,
    ) -> list[np.ndarray | None] | None:
        """Predict cases given by their files, with one process that preprocesses; nnU-Net's own loop writes labels."""
        return self.predict_from_files(
            list_of_lists_or_source_folder,
            output_folder_or_list_of_truncated_output_files,
            save_probabilities,
            overwrite,
            num_processes_preprocessing=1,
            folder_with_segs_from_prev_stage=folder_with_segs_from_prev_stage,
        )

    def predict_single_npy_array(
        self,
        input_image: np.ndarray,
        image_properties: dict,
        segmentation_previous_stage: np.ndarray | None = None,
        output_file_truncated: str | None = None,
        save_or_return_probabilities: bool = False,
    ) -> np.ndarray | None:
        """Return the images of one case `(C, *spatial)` as its reader returns it, None where they are written.

        Args:
            image_properties: of the reader; "spacing" alone is enough where nothing is written.
        """
        case = next(
            PreprocessAdapterFromNpy(
                [input_image],
                [segmentation_previous_stage],
                [image_properties],
                [output_file_truncated],
                self.plans_manager,
                self.dataset_json,
                self.configuration_manager,
                num_threads_in_multithreaded=1,
                verbose=self.verbose,
            )
        )
        return self.predict_from_data_iterator([case], save_or_return_probabilities)[0]


def write_images(
    images: np.ndarray,
    properties: dict,
    path: str | Path,
    file_ending: str = ".nii.gz",
    channel_numbers: Sequence[int] | None = None,
) -> list[Path]:
    """Write every channel as float32 with origin, spacing and direction of the case.

    nnU-Net's writers cast to integers. Formats that hold no float32 volumes, such as .png, give way to .nii.gz.

    Args:
        images: `(channels, *spatial)` in the case's geometry.
        properties: what nnU-Net's reader has noted about the case.
        path: folder and name of the case, to which `_0000.nii.gz` and so on are appended.
        channel_numbers: one per channel; None counts from 0.

    Returns:
        The files, in the order of the channels.

    Raises:
        XModalError: for another number of numbers than of channels.
    """
    numbers = range(len(images)) if channel_numbers is None else channel_numbers
    if len(numbers) != len(images):
        raise XModalError(f"{len(images)} predicted channels cannot be numbered {list(numbers)}: give one for each.")
    ending = float_ending(file_ending)
    written = []
    for number, image in zip(numbers, images):
        file = Path(f"{path}_{number:04d}{ending}")
        write_image(image, properties, file)
        written.append(file)
    return written


def write_image(image: np.ndarray, properties: dict, file: Path) -> None:
    """Write one volume `(*spatial)` as `write_images` writes each, under a name of its own."""
    write_volume(with_geometry(np.ascontiguousarray(image, dtype=np.float32), properties), file, compress=True)
