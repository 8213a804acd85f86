"""pydicom and highdicom, of the extra `dicom`: loaded where they are wanted, told of where they are not installed."""

from typing import Any

from nnunet_xmodal.errors import XModalError


def load_dicom_libraries(wanted_for: str) -> tuple[Any, Any]:
    """Import highdicom and pydicom.

    Args:
        wanted_for: what cannot be done without, as the beginning of a sentence.

    Returns:
        The modules highdicom and pydicom.

    Raises:
        XModalError: where one of them is not installed.
    """
    try:
        import highdicom
        import pydicom
        import pydicom.sr.codedict
    except ImportError as error:
        raise XModalError(
            f"{wanted_for}, for which pydicom and highdicom are needed: install them, for example by "
            'pip install "nnunet-xmodal[dicom]".'
        ) from error
    return highdicom, pydicom
