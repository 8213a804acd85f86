"""Plans for regression: which image channel is learnt, and how many channels the network puts out.

nnU-Net knows images and label maps; a continuous target travels as the last image channel. `plans["xmodal"]` says so:

    {"target_channel": 1, "outputs": 1}

Networks follow it, not the numbers of channels and labels that nnU-Net passes. At prediction there is no target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_xmodal.errors import XModalError


@dataclass(frozen=True)
class TargetChannel:
    """The image channel that a regression network learns.

    Attributes:
        index: of the target among the image channels; all channels before it are inputs.
        outputs: channels that the network puts out.
    """

    index: int
    outputs: int = 1

    @classmethod
    def of_plans(cls, plans: dict, trainer: str) -> "TargetChannel":
        """Read the target channel of plans.

        Args:
            trainer: name of who asks, for the sentence.

        Raises:
            XModalError: for plans without a target.
        """
        entry = plans.get("xmodal", {})
        if "target_channel" not in entry:
            raise XModalError(
                f"{trainer} learns an image, and the plans {plans.get('plans_name')} name no target channel: plan with "
                "nnUNetXModal_plan_and_preprocess -pl ReconstructionPlanner and train with -p "
                "nnUNetReconstructionPlans."
            )
        return cls(int(entry["target_channel"]), int(entry.get("outputs", 1)))

    def as_plans(self) -> dict:
        """Return the entry of plans that `of_plans` reads."""
        return {"target_channel": self.index, "outputs": self.outputs}


def input_names(channel_names: Sequence[str], plans: dict) -> list[str]:
    """Return the names of the channels that a network reads: all but the target, if the plans have one."""
    target = plans.get("xmodal", {}).get("target_channel")
    return [name for index, name in enumerate(channel_names) if index != target]
