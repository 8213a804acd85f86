"""What a planner declares beside nnU-Net's interface, and what holds for nnU-Net's own, which declare nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nnunet_xmodal.datasets.cases import Case
from nnunet_xmodal.datasets.streams import channel_names_of
from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.planners import PLANNERS, planner_class

OPTIONS_OF_NNUNET = ("streams", "patch", "base_width")
"""Options with planners of nnU-Net's own: streams are added to their plans, the sizes come from SizedPlanning."""


class OwnPlanner:
    """A mixin before one of nnU-Net's planners: what this package asks a planner before it plans.

    Attributes:
        own_options: what the constructor takes beside nnU-Net's arguments, each None by default; the names of the
            fields of PlanRequest and of the command's flags.
        needs_every_label: whether training cases without a label are refused.
        needs_every_channel: whether training cases that lack a channel are refused, `allow_missing` or not.
    """

    own_options: ClassVar[tuple[str, ...]] = OPTIONS_OF_NNUNET
    needs_every_label: ClassVar[bool] = False
    needs_every_channel: ClassVar[bool] = False

    @staticmethod
    def input_names(dataset_json: dict) -> list[str]:
        """Return the names of the channels that networks read."""
        return channel_names_of(dataset_json)

    @classmethod
    def check_raw(cls, dataset_json: dict, cases: Sequence[Case], **options: Any) -> None:
        """Check what this planner alone asks of a raw dataset; by default nothing.

        Args:
            dataset_json: of the raw dataset.
            cases: its training cases.
            options: those of `own_options` that are given.

        Raises:
            XModalError: for the first fault.
        """


def declared_by(planner: type) -> type[OwnPlanner]:
    """Return a planner of ours, or the defaults where it is one of nnU-Net's."""
    return planner if issubclass(planner, OwnPlanner) else OwnPlanner


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Check that a planner takes all options that are given.

    Args:
        name: of the planner.
        options: by name, among others that are no options of planners; None where one is not given.

    Raises:
        XModalError: for the first that it does not take; names the planners that do.
    """
    taken = declared_by(planner_class(name)).own_options
    for option, planners in _planners_by_option().items():
        if options[option] is not None and option not in taken:
            others = ", or one of nnU-Net's own" if option in OPTIONS_OF_NNUNET else ""
            raise XModalError(f"--{option} does not apply to {name}: take one of {', '.join(planners)}{others}.")


def _planners_by_option() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in PLANNERS:
        for option in declared_by(planner_class(name)).own_options:
            found.setdefault(option, []).append(name)
    return found
