"""What changed in the plans between a checkpoint and the training that goes on from it."""

import json
from collections.abc import Mapping
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

_OF_THE_IMAGES = ("spacing", "normalization_schemes", "use_mask_for_norm")
"""What preprocessing does to every image; patch and batch may change from one epoch to the next."""


def changed_settings(theirs: dict, ours: dict, configuration: str) -> list[str]:
    """Return what a training cannot go on with, each as `name: before → now`.

    Args:
        theirs: plans in the checkpoint.
        ours: plans of the training.
        configuration: its name.

    Returns:
        Order of axes, spacing and normalisation, and settings of the network that both plans have; nothing for plans
        that do not describe the configuration.
    """
    if configuration not in theirs.get("configurations", {}):
        return []
    before, now = (PlansManager(plans).get_configuration(configuration).configuration for plans in (theirs, ours))
    pairs = [("transpose_forward", theirs.get("transpose_forward"), ours.get("transpose_forward"))]
    pairs += [(name, before.get(name), now.get(name)) for name in _OF_THE_IMAGES]
    kwargs, kwargs_now = _network(before), _network(now)
    pairs += [(name, kwargs[name], kwargs_now[name]) for name in kwargs if name in kwargs_now]
    return [f"{name}: {_text(was)} → {_text(is_now)}" for name, was, is_now in pairs if _text(was) != _text(is_now)]


def _network(configuration: Mapping) -> dict[str, Any]:
    kwargs = dict(configuration.get("architecture", {}).get("arch_kwargs", {}))
    kwargs.pop("streams", None)  # which are told by their own sentence
    return kwargs


def _text(value: Any) -> str:
    return json.dumps(value, default=list)
