"""CMFT and CMFF as their paper trained them (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 4.1).

"We randomly sampled patches of size 128×128×128 within the brain tumor area"; base width 16, doubled by each level;
Adam with an initial learning rate of 1e-4, batch size 1, λ = 10, Dice. Patch and width are the plans', made by

    nnUNetXModal_plan_and_preprocess -d 502 -c 3d_fullres --patch 128 128 128 --base_width 16

The paper prints no length, no schedule and no augmentation: nnU-Net's 1,000 epochs of 250 iterations and polynomial
decay are ours; images are not augmented, gradients not clipped, cases not mirrored at prediction.
"""

from typing import Any

import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from nnunet_xmodal.trainers.base.augmentation import CHANGE_INTENSITIES, AugmentationSettings, without
from nnunet_xmodal.trainers.base.paper_settings import PaperSettings
from nnunet_xmodal.trainers.base.unclipped_steps import UnclippedSteps
from nnunet_xmodal.trainers.cmff import nnUNetTrainerCMFFDice
from nnunet_xmodal.trainers.cmft import nnUNetTrainerCMFTTumour

PATCH, BASE_WIDTH = (128, 128, 128), 16


class TumourPatchesAsTheyAre(PaperSettings):
    """The settings that both trainings share: length, batch of one, Adam's rate, patches that nothing is done to.

    A mixin before a trainer. Gradients are as they come, and every patch of a training is centred on a voxel with a
    label, as far as the image's border lets it.
    """

    num_epochs = 1000
    paper_batch_size = 1
    initial_lr = 1e-4
    oversample_foreground_percent = 1.0
    largest_gradient: float | None = None

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> AugmentationSettings:
        """Return no rotation and the patch as it is; nothing is mirrored."""
        self.inference_allowed_mirroring_axes = None
        return (0.0, 0.0), False, self.configuration_manager.patch_size, None

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> ComposeTransforms:
        """Return the transforms of training patches, which change no intensity and move no voxel."""
        changes = (SpatialTransform, MirrorTransform, *CHANGE_INTENSITIES)
        return ComposeTransforms(without(super().get_training_transforms(*args, **kwargs), changes))

    def on_train_start(self) -> None:
        """Log before the first epoch where the plans differ from the paper's."""
        super().on_train_start()
        configuration = self.configuration_manager
        width = configuration.network_arch_init_kwargs["features_per_stage"][0]
        if tuple(configuration.patch_size) != PATCH or width != BASE_WIDTH:
            self.print_to_log_file(
                f"The plans have patches of {'×'.join(map(str, configuration.patch_size))} and a width of {width}, the "
                f"paper {'×'.join(map(str, PATCH))} and {BASE_WIDTH}: nnUNetXModal_plan_and_preprocess --patch "
                f"{' '.join(map(str, PATCH))} --base_width {BASE_WIDTH} plans these."
            )


class nnUNetTrainerCMFTPaper(TumourPatchesAsTheyAre, nnUNetTrainerCMFTTumour):
    """CycleGAN between the two streams by the paper's settings; labels say where the patches lie, as there."""


class nnUNetTrainerCMFFPaper(TumourPatchesAsTheyAre, UnclippedSteps, nnUNetTrainerCMFFDice):
    """Fine-tuning of S_A, S_B and S_F by the paper's settings: Dice of three outputs, without deep supervision.

    `-pretrained_weights` takes the checkpoint of `nnUNetTrainerCMFTPaper`.
    """

    deep_supervision = False

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, PolyLRScheduler]:
        """Return the optimiser and the schedule of its learning rate."""
        optimizer = torch.optim.Adam(self.network.parameters(), self.initial_lr)
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
