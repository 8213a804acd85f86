"""The configuration that the demo trains: nnU-Net's own, with a smaller batch and a narrower network."""

from copy import deepcopy


def narrowed(configurations: dict, name: str, batch_size: int, features: int) -> dict:
    """Return a configuration of nnU-Net's plans that inherits all the rest from another one.

    Args:
        configurations: of the plans.
        name: of the one that is narrowed.
        batch_size: of the result.
        features: of the first level. Levels that nnU-Net made 2, 4, 8 times as wide as the first stay so, rounded down
            to whole channels; a network that is as narrow already stays as it is.
    """
    source = configurations[name]
    while "architecture" not in source:
        source = configurations[source["inherits_from"]]
    architecture = deepcopy(source["architecture"])
    widths = architecture["arch_kwargs"]["features_per_stage"]
    if widths[0] > features:
        architecture["arch_kwargs"]["features_per_stage"] = [max(1, width * features // widths[0]) for width in widths]
    return {"inherits_from": name, "batch_size": batch_size, "architecture": architecture}
