"""Is what a generator makes of A more like B than A itself is? If not, it has not learnt, or inverted the contrast.

"A itself" is the most similar channel of A, on the normalised scale that made images are on too; the measure is SSIM,
with the range and the minimum of the real channel of B as in the validation (see `tasks.synthesis.validation`).
"""

from collections.abc import Mapping, Sequence

import numpy as np

from nnunet_xmodal.evaluation.image_similarity import image_similarity


def untranslated_ssim(
    real: np.ndarray, mask: np.ndarray, ranges: Sequence[float], sources: Sequence[int], targets: Sequence[int]
) -> float:
    """Return the SSIM of B's channels with the most similar channel of A, averaged over B's channels.

    Args:
        real: `(C, *spatial)`, all channels in normalised intensities.
        mask: bool `(*spatial)`, what counts.
        ranges: per channel of `real` its data range, see `range_inside`.
        sources, targets: the channels of A and of B.

    Returns:
        NaN for an empty mask and for a constant channel of B.
    """
    return float(np.mean([max(_ssim(real, mask, ranges, a, b) for a in sources) for b in targets]))


def _ssim(real: np.ndarray, mask: np.ndarray, ranges: Sequence[float], source: int, target: int) -> float:
    lowest = real[target][mask].min() if mask.any() else 0
    as_it_is, wanted = real[[source]] - lowest, real[[target]] - lowest
    return image_similarity(as_it_is, wanted, mask, ranges[target])["SSIM"]


def worse_than_untranslated(
    measured: Sequence[Mapping[str, float]], untranslated: Sequence[Mapping[str, float]]
) -> list[str]:
    """Return a sentence for every direction whose translation is less similar to its target than its source is.

    Args:
        measured: of every validation case the metrics, among them `A_to_B_SSIM` and `B_to_A_SSIM`.
        untranslated: of every validation case, by the same names, what the source reaches as it is. Cases in which
            either number is NaN do not count.
    """
    sentences = []
    for name in untranslated[0]:
        pairs = np.array([(made[name], as_it_is[name]) for made, as_it_is in zip(measured, untranslated)])
        pairs = pairs[np.isfinite(pairs).all(1)]
        if not len(pairs):
            continue
        made, as_it_is = pairs.mean(0)
        source, target = name.removesuffix("_SSIM").split("_to_")
        if made < as_it_is:
            sentences.append(
                f"What is made of {source} is less similar to {target} (SSIM {made:.3f}) than {source} itself "
                f"({as_it_is:.3f}): the training was too short, or has inverted the contrast. Look at the figures in "
                "validation/images before these images are used, and train longer or with nnUNetTrainerCMFTPaired."
            )
    return sentences
