"""The paper's Baseline: one encoder per stream, concatenated (Zhang et al., 2020, Sec. IV-C)."""

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import nn

from nnunet_xmodal.datasets.presence import missing_of
from nnunet_xmodal.losses.attention_distillation import AttentionDistillationLoss
from nnunet_xmodal.networks.blocks.attention_map import AttentionMapGenerationBlock
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.stream_dropout import SomeStreams, StreamDropout
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.stream_grouping import check_several_streams
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.prediction.tiles import tiles_of
from nnunet_xmodal.tasks.segmentation.attention_log import add_to_log, sentence
from nnunet_xmodal.tasks.segmentation.attention_places import attention_is_alive
from nnunet_xmodal.tasks.segmentation.attention_report import WeighedLosses, distillation_report, symmetric_kl_of_tiles
from nnunet_xmodal.tasks.segmentation.whole_samples import whole_samples
from nnunet_xmodal.trainers.base.trainer import XModalTrainer

_SAMPLES = 4  # whose median is reported: single ones differ by a factor of ten at the start


class nnUNetTrainerMultiStream(XModalTrainer):
    """Streams, concatenation, nnU-Net's loss.

    Writes `attention.json` into the fold's folder: where the streams' attention lies and how far it agrees at the start
    and at the end of training and on the validation cases, whether or not the network is trained to agree, and whether
    it came alive in between. Where cases lack streams, it is about those that have all.

    Attributes:
        reduce_skips: 1×1 convolutions bring the concatenated skips back to the plan's width.
        alpha: α of Eq. 8.
        attention_normalisation: of Eq. 1's sum of squares before its softmax, see AttentionMapGenerationBlock: "std",
            "mean", or "sum" for none (as printed).
        distillation_scale: "pairs", mean over pairs of half the symmetric KL, or "positions", its sum over pairs, each
            divided by its positions (as printed).
        stop_gradient: the deeper map of a pair is a target that does not learn; as printed, both learn.
        first_level: finest level whose maps are compared, from 1.
    """

    reduce_skips = True
    alpha = 0.03
    attention_normalisation = "std"
    distillation_scale = "pairs"
    stop_gradient = True
    first_level = 1

    @classmethod
    def reduces_skips(cls, plan: UNetPlan) -> bool:
        """Tell whether skips are reduced: what the plans say, which narrow the streams in return, else what the trainer
        does.
        """
        return cls.reduce_skips if plan.reduce_skips is None else plan.reduce_skips

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what MultiStreamUNet takes besides the plan."""
        return {"reduce_skips": cls.reduces_skips(plan)}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        """Build the untrained network of the plan."""
        return MultiStreamUNet(**plan.arguments, **cls.blocks(plan))

    @classmethod
    def _check_streams(cls, plan: UNetPlan) -> None:
        check_several_streams(plan.streams, cls.__name__, "fuses two or more streams", "train nnUNetTrainerMultiStream")

    @classmethod
    def measured_paths(cls) -> DistillationPaths:
        """Return the connections whose agreement is reported: the proposal's, so that trainers compare."""
        return cls.paths("ILC")

    @classmethod
    def paths(cls, scheme: str) -> DistillationPaths:
        """Return the pairs of attention maps as this trainer reads them."""
        amgb = AttentionMapGenerationBlock(cls.attention_normalisation)
        return DistillationPaths(scheme, amgb, cls.stop_gradient, cls.first_level)

    @property
    def segmentation_loss(self) -> nn.Module:
        """Return nnU-Net's loss."""
        return self.loss

    @property
    def distillation_weight(self) -> float:
        """Return α as the report of the attention maps takes it."""
        return self.alpha

    def on_train_start(self) -> None:
        """Report the attention maps before the first epoch."""
        super().on_train_start()
        if self.current_epoch == 0:  # a continued training has its start behind it
            self._report_attention("start", self._samples())

    def on_train_end(self) -> None:
        """Report the attention maps after the last epoch."""
        samples = self._samples()  # the loaders end with the training
        super().on_train_end()
        self._report_attention("end", samples)

    def _samples(self) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return whole_samples(self.dataloader_train, self.missing, _SAMPLES)

    def foreground(self, target: torch.Tensor) -> torch.Tensor:
        """Tell where there is something to segment, `(B, 1 or regions, *spatial)` → bool `(B, *spatial)`."""
        labels = self.label_manager
        if labels.has_regions:
            return target[:, : len(labels.foreground_regions)].bool().any(1)
        return (target[:, 0] > 0) & (target[:, 0] != (labels.ignore_label if labels.has_ignore_label else -1))

    def _report_attention(self, when: str, samples: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
        """On every rank, because nnU-Net's batch Dice gathers over ranks; the first writes."""
        if not len(samples[0]) or (self.is_ddp and self.missing):  # ranks would have to find as many samples each
            self.print_to_log_file(f"No attention report at the {when} of training: too few cases have all streams.")
            return
        data, levels = samples[0].to(self.device), [level.to(self.device) for level in samples[1]]
        self.plain_network.train()
        for module in self.plain_network.modules():
            if isinstance(module, StreamDropout | SomeStreams):
                module.eval()  # what is dropped would change the numbers from call to call
        distillation = AttentionDistillationLoss(self.distillation_scale)
        losses = WeighedLosses(self.segmentation_loss, self.measured_paths(), distillation, self.distillation_weight)
        target = levels if self.enable_deep_supervision else levels[0]
        try:
            report = distillation_report(self.plain_network, losses, data, target, self.foreground(levels[0]))
        except torch.cuda.OutOfMemoryError:  # a report is not worth a training
            self.print_to_log_file(f"No attention report at the {when} of training: not enough GPU memory in float32.")
            return
        if self.local_rank != 0:
            return
        known = add_to_log(self.output_folder, {when: report})
        if when == "end":
            alive = attention_is_alive(known.get("start", {}), report)
            add_to_log(self.output_folder, {"alive": alive})
            self.print_to_log_file(f"Attention is alive: {'not known' if alive is None else alive}")
        self.print_to_log_file(sentence(when, report))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, and report the attention maps."""
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
        missing = missing_of([dataset])
        val_keys = [case for case in val_keys if case not in missing]
        if not val_keys:
            return
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
        add_to_log(self.output_folder, {"validation": {"symmetric_kl": mean, "symmetric_kl_per_case": per_case}})
        self.print_to_log_file(f"Symmetric KL of the attention maps on the validation cases: {mean:.5g}")
