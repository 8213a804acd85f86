"""CMFT, cross-modality feature transition (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.1)."""

from collections.abc import Sequence
from functools import partial

import torch
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetBaseDataset
from torch import nn

from nnunet_xmodal.datasets.presence import check_some_stream, missing_of, present_streams
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.losses.cycle_gan import (
    DiscriminatorLoss,
    GeneratorsLoss,
    Translations,
    frozen,
    identity_mapping,
    paired_difference,
    translate_both_ways,
)
from nnunet_xmodal.networks.generator_pair import GeneratorPair
from nnunet_xmodal.networks.patch_discriminator import PatchDiscriminator
from nnunet_xmodal.networks.unet_plan import UNetPlan
from nnunet_xmodal.tasks.synthesis.loader import UnpairedLoader
from nnunet_xmodal.trainers.base.synthesis import SynthesisTrainer, on_cpu


class nnUNetTrainerCMFT(SynthesisTrainer):
    """CycleGAN between the two streams; each generator learns to make the other stream, each discriminator to tell.

    Attributes:
        lam: λ of Eq. 6.
        identity_weight: of CycleGAN's identity term, which the paper does not have; 0 leaves it out.
        paired_weight: of the L1 distance to the real image of the same case, which the paper does not have either.
        discriminator_factor: of the discriminators' losses; CycleGAN's code has 0.5.
    """

    lam = 10.0
    identity_weight = 0.0
    paired_weight = 0.0
    discriminator_factor = 1.0

    @classmethod
    def build_network(cls, plan: UNetPlan) -> GeneratorPair:
        """Build the untrained pair of generators."""
        return GeneratorPair.of_transition(plan.streams, **plan.architecture)

    def initialize(self) -> None:
        """Build generators, discriminators, losses and optimisers."""
        super().initialize()
        a, b = (len(channels) for channels in self.network.streams.values())
        if self.identity_weight and a != b:
            raise XModalError(
                f"the identity term needs streams with as many channels, and these have {a} and {b}: train with "
                "nnUNetTrainerCMFT."
            )
        conv_op, patch_size = self.network.branches["A"].encoder.conv_op, self.configuration_manager.patch_size
        self.discriminators = nn.ModuleDict(
            {
                name: PatchDiscriminator(conv_op, len(channels), patch_size)
                for name, channels in self.network.streams.items()
            }
        ).to(self.device)
        self.verdicts = {
            name: torch.compile(network) if self._do_i_compile() else network
            for name, network in self.discriminators.items()
        }
        # the generators' step asks discriminators without wanting their gradients, which DDP would wait for
        self.trained_verdicts = {name: self.distributed(network) for name, network in self.verdicts.items()}
        self.add_optimizer("discriminators", self.discriminators)
        self.generators_loss = GeneratorsLoss(self.lam)
        self.discriminator_loss = DiscriminatorLoss(self.discriminator_factor)

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step of both generators (Eq. 6), then one of both discriminators (Eq. 2, 3) on the same images."""
        with frozen(*self.discriminators.values()):
            with self.mixed_precision():
                t = translate_both_ways(self.generators["A"], self.generators["B"], a, b)
                loss = self.generators_loss(self.verdicts["A"], self.verdicts["B"], t)
                identity = self._identity(a, b)
                paired = self._paired(t)
            total = loss.total + self.identity_weight * identity + self.paired_weight * paired
            self.descend(total, self.optimizers["generators"])
        with self.mixed_precision():
            d_a = self.discriminator_loss(self.trained_verdicts["A"], t.a, t.fake_a)
            d_b = self.discriminator_loss(self.trained_verdicts["B"], t.b, t.fake_b)
        self.descend(d_a + d_b, self.optimizers["discriminators"])
        return {
            "loss": total,
            "cycle": loss.cycle,
            "identity": identity,
            "paired": paired,
            "G_A_to_B": loss.a_to_b,
            "G_B_to_A": loss.b_to_a,
            "D_A": d_a,
            "D_B": d_b,
        }

    def _identity(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if not self.identity_weight:
            return torch.zeros((), device=self.device)
        return identity_mapping(self.generators["A"], self.generators["B"], a, b)

    def _paired(self, translations: Translations) -> torch.Tensor:
        return paired_difference(translations) if self.paired_weight else torch.zeros((), device=self.device)

    def checkpoint(self) -> dict:
        """Return the checkpoint of the generators and the discriminators' weights."""
        return super().checkpoint() | {"discriminator_weights": on_cpu(self.discriminators.state_dict())}

    def restore(self, checkpoint: dict) -> None:
        """Restore what `checkpoint` returned."""
        super().restore(checkpoint)
        self.discriminators.load_state_dict(checkpoint["discriminator_weights"])


class nnUNetTrainerCMFTCheckpointed(nnUNetTrainerCMFT):
    """The same training with less memory: activations of the generators are computed twice instead of kept."""

    checkpoint_activations = True


class nnUNetTrainerCMFTIdentity(nnUNetTrainerCMFT):
    """With CycleGAN's identity term at half the cycle's weight, against translations with inverted contrast."""

    identity_weight = 5.0


class nnUNetTrainerCMFTUnpaired(nnUNetTrainerCMFT):
    """A and B of a step come from different cases, so that nothing but the cycle ties them together.

    Cases may lack one of the streams: they lend the other one, and complete cases are what it is validated on.
    """

    loader_class = UnpairedLoader
    takes_incomplete_cases = True

    def get_tr_and_val_datasets(self) -> tuple[nnUNetBaseDataset, nnUNetBaseDataset]:
        """Return the datasets of training, and of the validation cases that have both streams.

        Raises:
            XModalError: for a case without a whole stream, and where no validation case has both.
        """
        training, validation = super().get_tr_and_val_datasets()
        names = channel_names_of(self.dataset_json)
        check_some_stream(self.missing, self.plans_manager.plans["xmodal"]["streams"], names)
        return training, self._complete(validation, list(validation.identifiers))[0]

    def make_loader(
        self, dataset: nnUNetBaseDataset, loaded_patch_size: Sequence[int], transforms: ComposeTransforms
    ) -> nnUNetDataLoader:
        """Return the loader of the training patches, which draws a stream from cases that have it."""
        streams = self.plans_manager.plans["xmodal"]["streams"]
        present = {case: present_streams(channels, streams) for case, channels in self.missing.items()}
        patch_size = self.configuration_manager.patch_size
        return self.loader_class(
            dataset,
            self.batch_size,
            loaded_patch_size,
            patch_size,
            self.label_manager,
            transforms=transforms,
            without_a=[case for case, (has_a, _) in present.items() if not has_a],
            without_b=[case for case, (_, has_b) in present.items() if not has_b],
        )

    def validate(self, dataset: nnUNetBaseDataset, cases: list[str]) -> dict[str, float]:
        """Synthesise every validation case that has both streams."""
        return super().validate(*self._complete(dataset, cases))

    def _complete(self, dataset: nnUNetBaseDataset, cases: list[str]) -> tuple[nnUNetBaseDataset, list[str]]:
        missing = missing_of([dataset])
        complete = [case for case in cases if case not in missing]
        if not complete:
            raise XModalError(
                f"none of the {len(cases)} validation cases of this fold has both streams, and what is made of one is "
                "measured by the other: let nnUNetXModal_crossval make folds in which some have, or write a "
                "splits_final.json."
            )
        if len(complete) == len(cases):
            return dataset, cases
        self.print_to_log_file(f"{len(complete)} of {len(cases)} validation cases have both streams and are measured.")
        return self.dataset_class(self.preprocessed_dataset_folder, complete), complete

    def generators_step(self, a: torch.Tensor, b: torch.Tensor) -> dict[str, torch.Tensor]:
        """Take one step on images of different cases."""
        half = len(a) // 2  # the loader's samples i and half + i come from different cases
        return super().generators_step(a[:half], b[half:])


class nnUNetTrainerCMFTTumour(nnUNetTrainerCMFT):
    """Patches lie around labelled voxels, as the paper's "within the brain tumor area": the one variant with labels."""

    loader_class = partial(nnUNetDataLoader, oversample_foreground_percent=1.0)
