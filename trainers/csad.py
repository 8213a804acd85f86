"""CSAD and SCFF with their ablations (Zhang et al., Cross-Modal Self-Attention Distillation, 2020, Tables I–III).

Every trainer that distils exists in two readings. The default one keeps the distillation weak, late and off the deeper
maps; `…CSADPrinted…` is the paper's letter. What differs is in `PrintedReading`.
"""

from functools import partial
from math import isfinite

from torch import nn

from nnunet_xmodal.datasets.batch_check import check_batch
from nnunet_xmodal.losses.attention_distillation import DistilledSegmentationLoss
from nnunet_xmodal.networks.blocks.distillation_paths import DistillationPaths
from nnunet_xmodal.networks.blocks.spatial_correlation import SpatialCorrelatedFeatureFusion
from nnunet_xmodal.networks.late_fusion_unet import LateFusionUNet
from nnunet_xmodal.networks.multi_stream_encoder import Fusion
from nnunet_xmodal.networks.multi_stream_unet import MultiStreamUNet
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.tasks.segmentation.attention_report import WeighedLosses, gradients_of_losses
from nnunet_xmodal.trainers.multi_stream import nnUNetTrainerMultiStream

_STEPS_PER_MEASUREMENT = 10
_OF_NEW = 0.2  # of a ratio in the moving average; single samples differ by a factor of ten


class nnUNetTrainerCSAD(nnUNetTrainerMultiStream):
    """The proposal: interlaced distillation and SCFF, with nnU-Net's segmentation loss and optimiser.

    How the distillation is read is said by the attributes of nnUNetTrainerMultiStream, which measures it too.

    Attributes:
        scheme: "ILC", "PLC", or None for no connection (NLC).
        distillation_start: share of the training before which α counts as 0.
        distillation_ramp: share of the training over which it then grows to its value, linearly; 0 for at once. Both
            follow from the epoch and the step in it, so that a continued training goes on where it was.
        distillation_gradient_share: size at which the gradient of α·L_CSAD in the streams' encoders is held, as a share
            of the segmentation loss's, in place of a fixed α; None for `alpha`. Measured on one sample in every tenth
            step.
        fuse: whether SCFF takes the place of concatenation at the bottleneck.
        softmax: reading of SCFF's spatial softmax, "dual", "row" or "all".
        correlation_scale: of SCFF, "channels" (1/C̃, as printed) or "sqrt" (1/√C̃).
    """

    scheme: str | None = "ILC"
    distillation_start = 0.3
    distillation_ramp = 0.2
    distillation_gradient_share: float | None = None
    fuse = True
    softmax = "dual"
    correlation_scale = "channels"
    _step_of_epoch = 0
    _gradient_ratio: float | None = None

    @classmethod
    def distillation(cls) -> DistillationPaths | None:
        """Return the connections of the trainer's scheme, None for none."""
        return cls.paths(cls.scheme) if cls.scheme else None

    @classmethod
    def fusion(cls) -> Fusion:
        """Return what makes SCFF at the bottleneck."""
        return partial(SpatialCorrelatedFeatureFusion, softmax=cls.softmax, correlation_scale=cls.correlation_scale)

    @classmethod
    def blocks(cls, plan: UNetPlan) -> dict:
        """Return what the network takes besides the plan."""
        fusion = cls.fusion() if cls.fuse else None
        return {**super().blocks(plan), "fusion": fusion, "distillation": cls.distillation()}

    @classmethod
    def build_network(cls, plan: UNetPlan) -> nn.Module:
        """Build the untrained network of the plan."""
        cls._check_streams(plan)
        return super().build_network(plan)

    def _build_loss(self) -> nn.Module:
        return DistilledSegmentationLoss(super()._build_loss(), self.alpha, self.distillation_scale)

    @property
    def segmentation_loss(self) -> nn.Module:
        """Return the loss of the segmentation alone."""
        return self.loss.segmentation_loss

    @property
    def distillation_weight(self) -> float:
        """Return α in force once the distillation has its full weight."""
        return self.loss.alpha

    def distillation_share(self) -> float:
        """Return how much of α is in force in the coming step, from 0 to 1."""
        epochs = self.current_epoch + self._step_of_epoch / self.num_iterations_per_epoch
        done = epochs / self.num_epochs - self.distillation_start
        if done < 0:
            return 0.0
        return min(1.0, done / self.distillation_ramp) if self.distillation_ramp else 1.0

    def on_train_epoch_start(self) -> None:
        """Begin an epoch, with its first step."""
        super().on_train_epoch_start()
        self._step_of_epoch = 0
        if self.scheme:
            self.print_to_log_file(
                f"Weight of the distillation: {self.distillation_weight * self.distillation_share():.4g}"
            )

    def train_step(self, batch: dict) -> dict:
        """Train on one batch with the distillation's share of this step; return the loss."""
        self.loss.share = self.distillation_share()
        held = self.distillation_gradient_share
        if held is not None and self.loss.share and self._step_of_epoch % _STEPS_PER_MEASUREMENT == 0:
            self._hold_gradient_share(held, batch)
        self._step_of_epoch += 1
        return super().train_step(batch)

    def _hold_gradient_share(self, share: float, batch: dict) -> None:
        """Set α so that its gradient is the wanted share, by a moving average that begins anew with every call."""
        check_batch(batch)
        target = batch["target"]
        one = [level[:1].to(self.device) for level in (target if isinstance(target, list) else [target])]
        network, data = self.plain_network, batch["data"][:1].to(self.device)
        losses = WeighedLosses(self.segmentation_loss, network.distillation, self.loss.distillation_loss, alpha=1.0)
        target = one if isinstance(target, list) else one[0]
        measured = gradients_of_losses(network, losses, data, target)["gradient_ratio"]
        if not measured or not isfinite(measured):  # nothing to weigh in this sample
            return
        before = measured if self._gradient_ratio is None else self._gradient_ratio
        self._gradient_ratio = before ** (1 - _OF_NEW) * measured**_OF_NEW
        self.loss.alpha = share / self._gradient_ratio


class nnUNetTrainerCSADGradientShare(nnUNetTrainerCSAD):
    """The proposal with α held where the distillation's gradient is a tenth of the segmentation's."""

    distillation_gradient_share = 0.1


class PrintedReading:
    """The distillation and SCFF as printed: the same network with other numbers; a mixin before a trainer of them.

    Eq. 1 is the softmax of the plain sum of squares, Eq. 4 divides by 2WH and lets both maps learn, α is 1 (Sec. IV-A)
    from the first step on, Eq. 6 divides by C̃.
    """

    alpha = 1.0
    attention_normalisation = "sum"
    distillation_scale = "positions"
    stop_gradient = False
    first_level = 1
    distillation_start = 0.0
    distillation_ramp = 0.0
    correlation_scale = "channels"


class nnUNetTrainerCSADPrinted(PrintedReading, nnUNetTrainerCSAD):
    """The proposal as printed, with nnU-Net's segmentation loss and optimiser."""


class nnUNetTrainerSCFF(nnUNetTrainerCSAD):
    """Baseline + SCFF, Table I; "no layer connection" (NLC) of Table II."""

    scheme = None


class nnUNetTrainerCSADNoSCFF(nnUNetTrainerCSAD):
    """Baseline + CSAD, Table I."""

    fuse = False


class nnUNetTrainerCSADPrintedNoSCFF(PrintedReading, nnUNetTrainerCSADNoSCFF):
    """Baseline + CSAD as printed, Table I."""


class nnUNetTrainerCSADPLC(nnUNetTrainerCSAD):
    """Same-level connections, Table II."""

    scheme = "PLC"


class nnUNetTrainerCSADPrintedPLC(PrintedReading, nnUNetTrainerCSADPLC):
    """Same-level connections as printed, Table II."""


class nnUNetTrainerCSADMean(nnUNetTrainerCSADPrinted):
    """As printed, but the mean instead of the sum over channels in Eq. 1; its maps are nearly flat."""

    attention_normalisation = "mean"


class nnUNetTrainerCSADEarlyFusion(nnUNetTrainerCSAD):
    """One encoder for all channels, distillation from each of its levels to the next, Table III; nothing to fuse."""

    fuse = False
    one_input = True

    @classmethod
    def build_network(cls, plan: UNetPlan) -> MultiStreamUNet:
        """Build the untrained network of the plan."""
        streams = cls.streams_read(plan.streams)
        return MultiStreamUNet(**{**plan.arguments, "streams": streams}, distillation=cls.distillation())


class nnUNetTrainerCSADPrintedEarlyFusion(PrintedReading, nnUNetTrainerCSADEarlyFusion):
    """One encoder, distilled as printed, Table III."""


class nnUNetTrainerCSADLateFusion(nnUNetTrainerCSAD):
    """One encoder and one decoder per stream, SCFF behind the decoders, Table III; always fuses.

    Attributes:
        max_positions: to which the decoders' features are pooled for SCFF.
    """

    max_positions = 1024

    @classmethod
    def build_network(cls, plan: UNetPlan) -> LateFusionUNet:
        """Build the untrained network of the plan."""
        cls._check_streams(plan)
        return LateFusionUNet(
            **plan.arguments,
            fusion=cls.fusion(),
            distillation=cls.distillation(),
            max_positions=cls.max_positions,
        )


class nnUNetTrainerCSADPrintedLateFusion(PrintedReading, nnUNetTrainerCSADLateFusion):
    """One encoder and one decoder per stream, distilled as printed, Table III."""
