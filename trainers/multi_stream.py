"""The paper's Baseline: one encoder per stream, concatenated (Zhang et al., 2020, Sec. IV-C)."""

import json
import os

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_xmodal.data.atomic_files import write_json
from nnunet_xmodal.data.batch_check import check_batch
from nnunet_xmodal.evaluation.attention_report import distillation_report, symmetric_kl_of_tiles
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.stream_dropout import StreamDropout
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.prediction.tiles import tiles_of
from nnunet_xmodal.trainers.base import XModalTrainer


class nnUNetTrainerMultiStream(XModalTrainer):
    """Streams, concatenation, nnU-Net's loss.

    Writes `attention.json` into the fold's folder: how far the streams' attention agrees at the start and at the end of
    training and on the validation cases, whether or not the network is trained to agree.

    Attributes:
        reduce_skips: 1×1 convolutions bring the concatenated skips back to the plan's width.
        alpha: α of Eq. 8.
        attention_normalisation: "sum" (Eq. 1) or "mean" over channels.
    """

    reduce_skips = True
    alpha = 1.0
    attention_normalisation = "sum"

    @classmethod
    def reduces_skips(cls, plan: UNetPlan) -> bool:
        """What the plans say, which narrow the streams in return, else what the trainer does."""
        return cls.reduce_skips if plan.reduce_skips is None else plan.reduce_skips

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """What MultiStreamUNet takes besides the plan."""
        return {"reduce_skips": cls.reduces_skips(plan)}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        return MultiStreamUNet(**plan.arguments, **cls.blocks(plan))

    @classmethod
    def measured_paths(cls) -> DistillationPaths:
        """The connections whose agreement is reported; the proposal's for every trainer, so that they compare."""
        return DistillationPaths("ILC", AttentionMapGenerationBlock(cls.attention_normalisation))

    @property
    def segmentation_loss(self):
        return self.loss

    def on_train_start(self):
        super().on_train_start()
        if self.current_epoch == 0:  # a continued training has its start behind it
            self._report_attention("start", next(self.dataloader_train))

    def on_train_end(self):
        batch = next(self.dataloader_train)  # the loaders end with the training
        super().on_train_end()
        self._report_attention("end", batch)

    def _report_attention(self, when: str, batch: dict) -> None:
        """On every rank, because nnU-Net's batch Dice gathers over ranks; the first writes."""
        check_batch(batch)
        # one sample, because this runs in float32 and 3D batches are planned for half of that
        data = batch["data"][:1].to(self.device)
        target = batch["target"]
        target = [t[:1].to(self.device) for t in target] if isinstance(target, list) else target[:1].to(self.device)
        self.plain_network.train()
        for module in self.plain_network.modules():
            if isinstance(module, StreamDropout):
                module.eval()  # what is dropped would change the numbers from call to call
        try:
            report = distillation_report(
                self.plain_network, self.segmentation_loss, self.measured_paths(), self.alpha, data, target
            )
        except torch.cuda.OutOfMemoryError:  # a report is not worth a training
            self.print_to_log_file(f"No attention report at the {when} of training: not enough GPU memory in float32.")
            return
        if self.local_rank != 0:
            return
        ratio = report["gradient_ratio"]
        self._write_attention({when: report})
        self.print_to_log_file(
            f"Attention at the {when} of training: alpha*L_CSAD {report['alpha_L_CSAD']:.4g}, "
            f"its encoder gradient {'?' if ratio is None else format(ratio, '.3g')} of the segmentation loss's, "
            f"symmetric KL {report['symmetric_kl']:.4g}, effective support (stream x level) "
            + "; ".join(" ".join(f"{share:.2g}" for share in stream) for stream in report["effective_support"])
        )

    def perform_actual_validation(self, save_probabilities: bool = False):
        super().perform_actual_validation(save_probabilities)
        if self.local_rank == 0:
            self._report_validation_attention()

    def _report_validation_attention(self) -> None:
        _, val_keys = self.do_split()
        dataset = self.dataset_class(
            self.preprocessed_dataset_folder,
            val_keys,
            folder_with_segs_from_previous_stage=self.folder_with_segs_from_previous_stage,
        )
        network = self.plain_network.eval()
        predictor = nnUNetPredictor(tile_step_size=1, device=self.device, allow_tqdm=False)
        predictor.manual_initialization(
            network, self.plans_manager, self.configuration_manager, None, self.dataset_json, type(self).__name__, None
        )
        paths = self.measured_paths()
        per_case = {
            case: symmetric_kl_of_tiles(network, paths, tiles_of(predictor, self.network_input(dataset, case)))
            for case in val_keys
        }
        mean = sum(per_case.values()) / len(per_case)
        self._write_attention({"validation": {"symmetric_kl": mean, "symmetric_kl_per_case": per_case}})
        self.print_to_log_file(f"Symmetric KL of the attention maps on the validation cases: {mean:.5g}")

    def _write_attention(self, entry: dict) -> None:
        path = os.path.join(self.output_folder, "attention.json")
        known = {}
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                known = json.load(file)
        write_json({**known, **entry}, path)
