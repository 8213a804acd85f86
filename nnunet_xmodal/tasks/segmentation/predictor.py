"""Prediction with segmentation models: nnU-Net's own, and attention maps beside it."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from nnunet_xmodal.prediction.export import WholeFilesPredictor
from nnunet_xmodal.tasks.segmentation.attention_maps import attention_maps, write_attention_maps


class SegmentationPredictor(WholeFilesPredictor):
    """nnU-Net's predictor; on request it writes each case's attention maps while its preprocessed data is at hand.

    Attributes:
        attention_folder: where the attention maps go; None writes none.
    """

    options = frozenset({"attention_maps", "roi", "roi_label", "margin", "allow_missing", "impute"})

    attention_folder: Path | None = None

    def predict_from_data_iterator(self, data_iterator: Iterable[dict], *args, **kwargs):
        if self.attention_folder is not None:
            data_iterator = self._writing_attention_maps(data_iterator)
        return super().predict_from_data_iterator(data_iterator, *args, **kwargs)

    def _writing_attention_maps(self, data_iterator: Iterable[dict]) -> Iterator[dict]:
        for case in data_iterator:
            data = case["data"]  # large cases arrive as the name of a file, which nnU-Net deletes after use
            image = torch.from_numpy(np.load(data)) if isinstance(data, str) else torch.as_tensor(data)
            name = os.path.basename(case["ofile"])
            write_attention_maps(
                attention_maps(self, image), self, case["data_properties"], self.attention_folder, name
            )
            yield case

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        folder_with_segs_from_prev_stage: str | None = None,
    ):
        files = (list_of_lists_or_source_folder, output_folder_or_list_of_truncated_output_files)
        options = {
            "save_probabilities": save_probabilities,
            "overwrite": overwrite,
            "folder_with_segs_from_prev_stage": folder_with_segs_from_prev_stage,
        }
        if self.attention_folder is None:
            return super().predict_from_files_sequential(*files, **options)
        # nnU-Net's sequential loop keeps data and properties to itself; its data iterator hands out both
        print("Attention maps need nnU-Net's data iterator: one process preprocesses and one writes.")
        return self.predict_from_files(
            *files, num_processes_preprocessing=1, num_processes_segmentation_export=1, **options
        )
