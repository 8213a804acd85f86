"""Captum, which attributes what a network answers to what it has seen; an optional dependency."""

from types import ModuleType

from nnunet_xmodal.errors import XModalError


def captum_attr(asked_by: str) -> ModuleType:
    """Import Captum's attributions.

    Args:
        asked_by: the flag that needs them, for the sentence.

    Raises:
        XModalError: where Captum is not installed.
    """
    try:
        import captum.attr
    except ImportError as error:
        raise XModalError(f'{asked_by} needs Captum: pip install "nnunet-xmodal[gradcam]".') from error
    return captum.attr
