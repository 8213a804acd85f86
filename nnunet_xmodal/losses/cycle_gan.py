"""CycleGAN's losses, as CMFT takes them (Zhang et al., Cross-Modality Deep Feature Learning, 2021, Sec. 3.1).

The paper writes one objective, min over G and max over D (Eq. 5), of least-squares terms that D has to *minimise*:
taken literally, generators would be pushed towards "generated". Here both sides minimise, as CycleGAN does (Zhu et
al., 2017, the paper's reference 16):

- D_B minimises E[(D_B(B) − 1)²] + E[D_B(G_B^A(A))²] (Eq. 2), D_A the same with A and B exchanged (Eq. 3);
- both generators minimise E[(D_B(G_B^A(A)) − 1)²] + E[(D_A(G_A^B(B)) − 1)²] + λ·L_cyc (Eq. 4 and 6).

Expectations are means over batch and positions, ‖·‖₁ in Eq. 4 is the mean of absolute differences: with sums, λ would
depend on the size of the patch. Habits of CycleGAN that the paper does not mention: half the discriminators' loss and
the identity term are there to be asked for, the pool of earlier generated images is left out.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn

Translator = Callable[[torch.Tensor], torch.Tensor]


class Translations(NamedTuple):
    """Batches of both streams on their way there and back, A as `(B, C_A, *spatial)` and B as `(B, C_B, *spatial)`.

    Attributes:
        a, b: real images, of the same case or not.
        fake_a, fake_b: G_A^B(B) and G_B^A(A).
        cycled_a, cycled_b: G_A^B(G_B^A(A)) and G_B^A(G_A^B(B)).
    """

    a: torch.Tensor
    b: torch.Tensor
    fake_a: torch.Tensor
    fake_b: torch.Tensor
    cycled_a: torch.Tensor
    cycled_b: torch.Tensor


def translate_both_ways(a_to_b: Translator, b_to_a: Translator, a: torch.Tensor, b: torch.Tensor) -> Translations:
    """Apply both generators to both streams, and each to what the other has generated (Eq. 1).

    Args:
        a_to_b, b_to_a: G_B^A and G_A^B.
    """
    fake_b, fake_a = a_to_b(a), b_to_a(b)
    return Translations(a, b, fake_a, fake_b, cycled_a=b_to_a(fake_b), cycled_b=a_to_b(fake_a))


def real_or_generated(
    verdicts_of_real: torch.Tensor, verdicts_of_generated: torch.Tensor, factor: float = 1.0
) -> torch.Tensor:
    """Return E[(D(real) − 1)²] + E[D(generated)²], the discriminator's (Eq. 2, 3): two `(B, 1, *map)` → scalar."""
    real, generated = _full_precision(verdicts_of_real), _full_precision(verdicts_of_generated)
    return factor * ((real - 1).square().mean() + generated.square().mean())


def taken_for_real(verdicts_of_generated: torch.Tensor) -> torch.Tensor:
    """Return E[(D(generated) − 1)²], what a generator minimises: `(B, 1, *map)` → scalar."""
    return (_full_precision(verdicts_of_generated) - 1).square().mean()


def cycle_consistency(translations: Translations) -> torch.Tensor:
    """Return L_cyc = E|G_A^B(G_B^A(A)) − A| + E|G_B^A(G_A^B(B)) − B| (Eq. 4) → scalar."""
    t = translations
    return _mean_absolute_difference(t.cycled_a, t.a) + _mean_absolute_difference(t.cycled_b, t.b)


def identity_mapping(a_to_b: Translator, b_to_a: Translator, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return E|G_B^A(B) − B| + E|G_A^B(A) − A|, a scalar: what is of the target's kind already is to stay.

    CycleGAN's, Sec. 5.2. Nothing else tells a generator from the one that also inverts contrasts: the cycle undoes an
    inversion, and the way from one to the other leads through images without contrast.
    """
    return _mean_absolute_difference(a_to_b(b), b) + _mean_absolute_difference(b_to_a(a), a)


def paired_difference(translations: Translations) -> torch.Tensor:
    """Return E|G_B^A(A) − B| + E|G_A^B(B) − A|, a scalar: the distance to the real images of the same case.

    pix2pix's term (Isola et al., 2017), for streams that are aligned; the paper does without. Streams may differ in
    their number of channels.
    """
    t = translations
    return _mean_absolute_difference(t.fake_b, t.b) + _mean_absolute_difference(t.fake_a, t.a)


class DiscriminatorLoss(nn.Module):
    """What one discriminator minimises; the generator gets no gradient.

    Args:
        factor: 1 as in the paper; CycleGAN takes 0.5, which slows its discriminators down.

    Shape: discriminator, real and generated images `(B, C, *spatial)` → scalar.
    """

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, discriminator: Translator, real: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        """Return the discriminator's loss; see the class."""
        return real_or_generated(discriminator(real), discriminator(generated.detach()), self.factor)


class GeneratorLoss(NamedTuple):
    """Scalars: `total` is for the step, the others are its parts, for the log.

    Attributes:
        a_to_b, b_to_a: adversarial losses of G_B^A and G_A^B.
        cycle: L_cyc, without λ.
    """

    total: torch.Tensor
    a_to_b: torch.Tensor
    b_to_a: torch.Tensor
    cycle: torch.Tensor


class GeneratorsLoss(nn.Module):
    """What both generators minimise together (Eq. 6). Discriminators that must not learn from it are `frozen`.

    Args:
        lam: λ, the weight of the cycle.

    Shape: discriminators of A and of B, Translations → GeneratorLoss.
    """

    def __init__(self, lam: float = 10.0) -> None:
        super().__init__()
        self.lam = lam

    def forward(
        self, discriminator_a: Translator, discriminator_b: Translator, translations: Translations
    ) -> GeneratorLoss:
        """Return the generators' loss and its terms; see the class."""
        a_to_b = taken_for_real(discriminator_b(translations.fake_b))
        b_to_a = taken_for_real(discriminator_a(translations.fake_a))
        cycle = cycle_consistency(translations)
        return GeneratorLoss(a_to_b + b_to_a + self.lam * cycle, a_to_b, b_to_a, cycle)


@contextmanager
def frozen(*networks: nn.Module) -> Iterator[None]:
    """Let networks pass gradients on to their input within, and keep none for their parameters.

        with frozen(d_a, d_b):
            generators_loss(d_a, d_b, translations).total.backward()

    The backward pass belongs inside: checkpointed activations are computed again in it. Networks wrapped in
    DistributedDataParallel are frozen as they are.
    """
    parameters = [parameter for network in networks for parameter in network.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)


def _mean_absolute_difference(image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    return (_full_precision(image) - _full_precision(reference)).abs().mean()


def _full_precision(x: torch.Tensor) -> torch.Tensor:
    """At least float32: means over a patch and squares of verdicts overflow in float16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
