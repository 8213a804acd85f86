"""What the fusion study compares: names, and the trainer, plans and random numbers behind each."""

from collections.abc import Sequence
from dataclasses import dataclass

BASELINE = "MultiStream"
STOCK = "nnU-Net"
AGAIN = "MultiStream again"
"""The baseline with other random numbers: what it "gains" on itself is what chance does."""

WIDTHS = {"Narrow": (16, 32, 64, 128), "Wider": (19, 38, 76, 152)}
"""Channels per level by plans: those of all, and those at which one encoder multiplies as often as two narrow ones.

Forward, a batch of four 48×48 patches: nnU-Net 0.65 GFLOP, wider 0.92, MultiStream, SCFF and CSAD 0.92 to 0.93.
"""


@dataclass(frozen=True)
class Method:
    """A row of the study.

    Attributes:
        trainer: name of a class in nnunetv2, `nnunet_xmodal.trainers` or `fusion_controls`.
        plans: key of WIDTHS.
        draw: added to the random seed; another one than 0 is another initialisation and order of the same training.
    """

    trainer: str
    plans: str = "Narrow"
    draw: int = 0

    def trainer_class(self) -> type:
        """Return nnU-Net's trainer, one of this package, or a control of the study."""
        import fusion_controls
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

        from nnunet_xmodal import trainers

        if self.trainer == "nnUNetTrainer":
            return nnUNetTrainer
        return getattr(trainers if self.trainer.startswith("nnUNetTrainer") else fusion_controls, self.trainer)


METHODS = {
    "MultiStream": Method("nnUNetTrainerMultiStream"),
    AGAIN: Method("nnUNetTrainerMultiStream", draw=500_000),
    STOCK: Method("nnUNetTrainer"),
    "nnU-Net wider": Method("nnUNetTrainer", "Wider"),
    "SCFF": Method("nnUNetTrainerSCFF"),
    "SCFF sqrt": Method("SCFFSquareRoot"),
    "SCFFLevels": Method("nnUNetTrainerSCFFLevels"),
    "StreamGates": Method("nnUNetTrainerStreamGates"),
    "MultiStreamDropout": Method("nnUNetTrainerMultiStreamDropout"),
    "AnyStreamsDistilled": Method("nnUNetTrainerAnyStreamsDistilled"),
    "CSAD": Method("nnUNetTrainerCSAD"),
    "CSADGradientShare": Method("nnUNetTrainerCSADGradientShare"),
    "CSADNoSCFF": Method("nnUNetTrainerCSADNoSCFF"),
    "CSADMean": Method("nnUNetTrainerCSADMean"),
    "CSADPLC": Method("nnUNetTrainerCSADPLC"),
    "FA": Method("nnUNetTrainerFA"),
    "CSADPrinted": Method("nnUNetTrainerCSADPrinted"),
    "CSAD uniform": Method("CSADUniform"),
    "CSAD shuffled": Method("CSADShuffled"),
}
CONTROLS = (AGAIN, STOCK, "nnU-Net wider", "CSADPrinted", "CSAD uniform", "CSAD shuffled")
"""Methods that are measured but never chosen: what the others have to beat, and what says how far to believe them."""


def method_of(name: str) -> Method:
    """Return a method of the study, or the plain training of another trainer, named without nnUNetTrainer."""
    return METHODS.get(name) or Method(f"nnUNetTrainer{name}")


def named(words: Sequence[str]) -> list[str]:
    """Return the methods that words name: methods, trainers and groups of trainers such as @fusion, each once.

    Raises:
        XModalError: for a group that does not exist.
        AttributeError: for a trainer that does not exist.
    """
    from nnunet_xmodal.catalogue.groups import expanded

    names = [word if word in METHODS else word.removeprefix("nnUNetTrainer") or STOCK for word in expanded(words)]
    for name in names:
        method_of(name).trainer_class()
    return list(dict.fromkeys(names))
