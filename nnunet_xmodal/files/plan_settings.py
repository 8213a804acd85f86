"""Whether nnU-Net can preprocess cases and build a network by the settings that plans have for a configuration.

Without a look at them a stranger's plans, or damaged ones, end in whatever the first line of nnU-Net's raises that
needs what is not there.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_xmodal.errors import XModalError
from nnunet_xmodal.files.inherited import with_inherited
from nnunet_xmodal.files.trusted_names import find_in_nnunet

_LARGEST_SIDE = 1 << 14  # voxels of a patch


def check_settings(plans: Mapping, name: str, source: str | Path) -> None:
    """Check what prediction reads of plans and of one configuration, with what it inherits.

    Args:
        plans: see `trusted_plans.check_plans`, which has checked what they name.
        name: of the configuration.
        source: for the sentence, the plans' file.

    Raises:
        XModalError: for the first setting that is missing or cannot be meant.
    """
    intensities = plans.get(
        "foreground_intensity_properties_per_channel", plans.get("foreground_intensity_properties_by_modality")
    )
    channels = len(intensities) if isinstance(intensities, Mapping | list) else 0
    _check(channels > 0, "foreground_intensity_properties_per_channel", intensities, source)
    for key in ("transpose_forward", "transpose_backward"):
        _check(_is_list(plans.get(key), int) and sorted(plans[key]) in ([0, 1, 2], [0, 1]), key, plans.get(key), source)
    _check(
        isinstance(plans.get("image_reader_writer"), str),
        "image_reader_writer",
        plans.get("image_reader_writer"),
        source,
    )

    settings = with_inherited(plans["configurations"], name)
    where = f"configuration {name} of {source}"
    patch: Any = settings.get("patch_size")
    fits = _is_list(patch, int) and len(patch) in (2, 3) and all(0 < side <= _LARGEST_SIDE for side in patch)
    _check(fits, "patch_size", patch, where)
    expected: dict[str, Callable[[Any], bool]] = {
        "spacing": lambda value: (
            _is_list(value, int | float)
            and len(value) == len(patch)
            and all(math.isfinite(mm) and mm > 0 for mm in value)
        ),
        "normalization_schemes": lambda value: _is_list(value, str) and len(value) == channels,
        "use_mask_for_norm": lambda value: _is_list(value, bool) and len(value) == channels,
        "preprocessor_name": lambda value: isinstance(value, str),
    }
    for of in ("data", "seg", "probabilities"):
        expected[f"resampling_fn_{of}"] = lambda value: isinstance(value, str)
        expected[f"resampling_fn_{of}_kwargs"] = lambda value: isinstance(value, Mapping)
    for key, fits_key in expected.items():
        _check(fits_key(settings.get(key)), key, settings.get(key), where)
    for of in ("data", "seg", "probabilities"):
        function = find_in_nnunet(settings[f"resampling_fn_{of}"], "preprocessing.resampling")
        key = f"resampling_fn_{of}_kwargs"
        if callable(function):  # else somebody else's, by --trust
            _check(set(settings[key]) <= set(inspect.signature(function).parameters), key, settings[key], where)


def _is_list(value: object, kind: Any) -> bool:
    is_number = kind is int or kind == int | float
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and bool(value)
        and all(isinstance(one, kind) and not (is_number and isinstance(one, bool)) for one in value)
    )


def _check(fits: bool, key: str, value: object, where: str | Path) -> None:
    if not fits:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else f"{shown[:80]}…"
        what = f"has no {key}" if value is None else f"has the {key} {shown}"
        raise XModalError(f"{where} {what}, of which nnU-Net can make nothing: copy the file anew.")
