"""How a few-shot model sees slices, noted in its plans, so that models from before see them as they did in training."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.networks.blocks.local_prototypes import LocalPrototypes

if TYPE_CHECKING:
    from nnunet_xmodal.trainers.base.trainer import XModalTrainer as _Trainer
else:
    _Trainer = object  # a mixin, whose methods the trainer has behind it

_SIGHT = 2  # counted up whenever models from before would be misread


class NotedSight(_Trainer):
    """A mixin before a trainer of prototypes.

    Attributes:
        prototypes: makes the module that turns support features into scores.
        padded_by_background: whether slices smaller than the patch are surrounded by their background; False for 0.
    """

    prototypes: Callable[[], nn.Module] = LocalPrototypes
    padded_by_background = True

    def set_up(self, plans: dict, configuration: str, dataset_json: dict) -> None:
        """Note in the plans that the model will keep that slices are seen as this class says."""
        super().set_up(plans, configuration, dataset_json)
        plans["xmodal"]["few_shot_sight"] = _SIGHT

    @classmethod
    def sight_of(cls, plans: dict) -> dict[str, Any]:
        """Return how a model sees slices: `prototypes`, made, and `padded_by_background`.

        Models that were trained before plans noted it have windows of 4×4 and 2×2 positions, whatever the map, and see
        padding as 0.
        """
        if plans.get("xmodal", {}).get("few_shot_sight") == _SIGHT:
            return {"prototypes": cls.prototypes(), "padded_by_background": cls.padded_by_background}
        local = cls.prototypes is LocalPrototypes
        return {"prototypes": LocalPrototypes(4, 2) if local else cls.prototypes(), "padded_by_background": False}

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Load a checkpoint, and see slices as its model does, be it from before `sight_of`."""
        super().load_checkpoint(filename_or_checkpoint)
        theirs = self.my_init_kwargs["plans"]
        if theirs.get("xmodal", {}).get("few_shot_sight") == _SIGHT:
            return  # as the network was built, whose prototypes may have weights
        self.plans_manager.plans["xmodal"].pop("few_shot_sight", None)
        for name, value in self.sight_of(theirs).items():
            setattr(self.plain_network, name, value)

    def check_sight_of_other_folds(self) -> None:
        """Check that all folds of a model see slices in one way.

        Raises:
            XModalError: if folds that see slices in another way would share this fold's plans.
        """
        other, plans = self.other_fold()
        theirs, ours = (one.get("xmodal", {}).get("few_shot_sight") for one in (plans, self.plans_manager.plans))
        if other is not None and theirs != ours:
            raise XModalError(
                f"{other} was trained with windows of fixed size and 0 as padding, or this fold was: one folder of "
                "models cannot hold both; move the old folds away, or plan with another -overwrite_plans_name."
            )
