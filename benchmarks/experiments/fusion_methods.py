"""What the fusion study compares: names, and the trainer, plans and random numbers behind each."""

from dataclasses import dataclass

BASELINE = "MultiStream"
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
    "nnU-Net": Method("nnUNetTrainer"),
    "nnU-Net wider": Method("nnUNetTrainer", "Wider"),
    "SCFF": Method("nnUNetTrainerSCFF"),
    "SCFFLevels": Method("nnUNetTrainerSCFFLevels"),
    "StreamGates": Method("nnUNetTrainerStreamGates"),
    "MultiStreamDropout": Method("nnUNetTrainerMultiStreamDropout"),
    "AnyStreamsDistilled": Method("nnUNetTrainerAnyStreamsDistilled"),
    "CSAD": Method("nnUNetTrainerCSAD"),
    "CSADGradientShare": Method("nnUNetTrainerCSADGradientShare"),
    "CSADNoSCFF": Method("nnUNetTrainerCSADNoSCFF"),
    "CSADPrinted": Method("nnUNetTrainerCSADPrinted"),
    "CSAD uniform": Method("CSADUniform"),
    "CSAD shuffled": Method("CSADShuffled"),
}
CONTROLS = (AGAIN, "nnU-Net", "nnU-Net wider", "CSADPrinted", "CSAD uniform", "CSAD shuffled")
"""Methods that are measured but never chosen: what the others have to beat, and what says how far to believe them."""
