"""Write spatial transforms, and read them back before they get their names: ITK is silent on a full disk."""

from pathlib import Path

import SimpleITK as sitk

from nnunet_xmodal.files.atomic import write_atomically
from nnunet_xmodal.files.complete import is_complete


def write_transform(transform: sitk.Transform, file: str | Path) -> None:
    """Write a transform in the format of the file's ending, for example `.tfm`.

    Raises:
        XModalError: if the file cannot be written, or holds other parameters when it is read back, as on a full disk;
            see `nnunet_xmodal.files.atomic.write_atomically`.
    """
    write_atomically(file, lambda name: sitk.WriteTransform(transform, name), lambda name: _is_equal(name, transform))


def _is_equal(file: str, transform: sitk.Transform) -> bool:
    if not is_complete(file):
        return False
    read = sitk.ReadTransform(file)
    return (
        read.GetTransformEnum() == transform.GetTransformEnum()
        and read.GetParameters() == transform.GetParameters()
        and read.GetFixedParameters() == transform.GetFixedParameters()
    )
