"""Names that stand for several trainers, `@fusion` for all that fuse streams: a field of rivals in one word."""

from collections.abc import Iterable

from nnunet_xmodal.catalogue.entry import PREFIX
from nnunet_xmodal.errors import XModalError

MARK = "@"


def _named(names: str, backbone: str = "") -> tuple[str, ...]:
    return tuple(PREFIX + name + backbone for name in names.split())


_FEW_SHOT = "CRTP CRBase CRMask ALP PANet RPNet CRAPNet"

GROUPS = {
    "fusion": (
        PREFIX,
        *_named(
            "Stream0 Stream1 MultiStream CSADEarlyFusion CSADLateFusion SCFF CSAD StreamGates SCFFLevels AnyStreams"
        ),
        *_named("HyperDenseNet OctopusNet FuseUNet HSCNet MultiResUNet UNetPlusPlus mmFormer"),
    ),
    "attention": (PREFIX, *_named("FA SA RSA DualAttention AG")),
    "registration": _named("AttentionReg AttentionRegLabel FeatureReg CorrespondenceReg DVNet MSReg"),
    "few_shot": _named(_FEW_SHOT),
    "few_shotR18": _named(_FEW_SHOT, "R18"),
    "few_shotLite": _named(_FEW_SHOT, "Lite"),
}
"""Group → trainers; nnU-Net's own is among those of segmentation."""


def expanded(trainers: Iterable[str]) -> tuple[str, ...]:
    """Return the trainers with those of a group in the place of its name, each once.

    `@fusion_50epochs` stands for the group's trainers of that length.

    Raises:
        XModalError: for a group that does not exist.
    """
    trainers = tuple(trainers)
    alone = {trainer for trainer in trainers if not trainer.startswith(MARK)}
    found: list[str] = []
    for trainer in trainers:
        members = _members(trainer) if trainer.startswith(MARK) else (trainer,)
        found += [name for name in members if name == trainer or name not in alone and name not in found]
    return tuple(found)


def _members(name: str) -> list[str]:
    for group, trainers in GROUPS.items():
        length = name.removeprefix(MARK + group)
        if length != name and (not length or length.startswith("_")):
            return [trainer + length for trainer in trainers]
    known = ", ".join(MARK + group for group in GROUPS)
    raise XModalError(f"-tr {name} is no group of trainers: take one of {known}, or names of trainers.")
