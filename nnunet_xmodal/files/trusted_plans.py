"""Plans are looked through before anything is built of them: what they name, and what becomes part of a path."""

import inspect
import pydoc
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.trust import WAY_OUT, is_trusted
from nnunet_xmodal.files.trusted_names import find_in_nnunet, lies_in, locate

_NETWORKS = "architectures"  # of dynamic_network_architectures, where nnU-Net looks for networks that have moved


def check_plans(plans: object, source: str | Path) -> None:
    """Check every configuration, because a checkpoint says which one is built. With `--trust` only paths are checked.

    Args:
        source: for the sentence, the plans' file.

    Raises:
        XModalError: for the first name of anything but layers, networks and nnU-Net's own readers, preprocessors,
            normalisations and resamplings, for a part of a path that leads elsewhere, and for plans without
            configurations.
    """
    configurations = plans.get("configurations") if isinstance(plans, Mapping) else None
    if (
        not isinstance(plans, Mapping)
        or not isinstance(configurations, Mapping)
        or not all(isinstance(c, Mapping) for c in configurations.values())
    ):
        raise XModalError(f"{source} holds no plans of nnU-Net: it has no configurations, copy the file anew.")
    if not isinstance(plans.get("xmodal", {}), Mapping):
        raise XModalError(f'"xmodal" in {source} is {plans["xmodal"]!r} and no table of names: copy the file anew.')
    for key in ("dataset_name", "plans_name", "experiment_planner_used"):
        check_part_of_path(plans.get(key), f"{key} in {source}")
    for name, configuration in configurations.items():
        _check_paths(name, configuration, source)
        _check_parents(name, configurations, source)
    if is_trusted():
        return
    _check_of_nnunet(plans, "image_reader_writer", "imageio", source)
    _check_of_nnunet(plans, "label_manager", "utilities.label_handling", source)
    for name, configuration in configurations.items():
        _check_configuration(configuration, f"configuration {name} of {source}")


def check_part_of_path(value: object, what: str) -> None:
    """Check what becomes the name of a file or folder; None passes.

    Raises:
        XModalError: for separators, control characters and names that lead to another folder.
    """
    if value is None:
        return
    if not isinstance(value, str) or re.search(r"[/\\\x00-\x1f]", value) or value in ("..", "."):
        raise XModalError(f"{what} is {value!r}, which is no plain name and leads to another folder: correct it.")


def _check_parents(name: str, configurations: Mapping, source: str | Path) -> None:
    """Check that what a configuration inherits from is there, and ends."""
    seen: list[str] = []
    while name is not None:
        if not isinstance(name, str) or name not in configurations or name in seen:
            raise XModalError(
                f"configuration {seen[-1]} of {source} inherits from {name!r}, which is not there or inherits from it: "
                "copy the file anew."
            )
        seen.append(name)
        name = configurations[name].get("inherits_from")


def _check_paths(name: str, configuration: Mapping, source: str | Path) -> None:
    check_part_of_path(name, f"the name of a configuration in {source}")
    following = configuration.get("next_stage")
    for key, value in (
        ("data_identifier", configuration.get("data_identifier")),
        ("previous_stage", configuration.get("previous_stage")),
        *(("next_stage", stage) for stage in (following if isinstance(following, list) else [following])),
    ):
        check_part_of_path(value, f"{key} of configuration {name} in {source}")


def _check_configuration(configuration: Mapping, source: str) -> None:
    _check_of_nnunet(configuration, "preprocessor_name", "preprocessing", source)
    for key in ("resampling_fn_data", "resampling_fn_seg", "resampling_fn_probabilities"):
        _check_of_nnunet(configuration, key, "preprocessing.resampling", source)
    schemes = configuration.get("normalization_schemes")
    for scheme in schemes if isinstance(schemes, (list, tuple)) else [schemes]:
        _check_of_nnunet(
            {"normalization_schemes": scheme}, "normalization_schemes", "preprocessing.normalization", source
        )
    if "architecture" in configuration:
        _check_architecture(configuration["architecture"], source)


def _check_architecture(architecture: Any, source: str) -> None:
    try:
        network, arguments = architecture["network_class_name"], architecture["arch_kwargs"]
        imported = list(architecture["_kw_requires_import"])
        named = [(key, arguments[key]) for key in imported if arguments.get(key) is not None]
    except (TypeError, KeyError, AttributeError) as error:
        raise XModalError(f"the architecture in {source} is incomplete ({error!r}): copy the file anew.") from error
    for key, name in named:
        locate(name, f"{key} in {source}")
    try:
        locate(network, f"network_class_name in {source}")
    except XModalError:
        if not _has_moved(network):
            raise


def _has_moved(network: object) -> bool:
    """Return whether nnU-Net finds a network that its package has moved since, as it does."""
    import dynamic_network_architectures
    from nnunetv2.utilities.find_class_by_name import recursive_find_python_class

    package = dynamic_network_architectures.__name__
    if (
        not isinstance(network, str)
        or not lies_in(network, (package,))
        or not network.rpartition(".")[2].isidentifier()
    ):
        return False
    folder = Path(dynamic_network_architectures.__path__[0], _NETWORKS)
    found = recursive_find_python_class(str(folder), network.rpartition(".")[2], f"{package}.{_NETWORKS}")
    is_network = inspect.isclass(found) and lies_in(found.__module__, (package,))
    return is_network and pydoc.locate(network) is None


def _check_of_nnunet(content: Mapping, key: str, folder: str, source: str | Path) -> None:
    """Check a bare name that nnU-Net looks up in one of its own folders."""
    name = content.get(key)
    if name is None:
        return
    found = find_in_nnunet(name, folder) if isinstance(name, str) and name.isidentifier() else None
    is_own = inspect.isfunction(found) if key.startswith("resampling_fn") else inspect.isclass(found)
    if not is_own or not lies_in(found.__module__, (f"nnunetv2.{folder}",)):
        raise XModalError(
            f"{key} in {source} is {name!r}, which nnU-Net does not have: install the nnU-Net that wrote it, or, "
            f"{WAY_OUT}."
        )
