"""nnU-Net v2 for several imaging modalities at once."""

from importlib.util import find_spec

if find_spec("nnunet_xmodal.trainers") is None:  # only an installation maps trainers/ into the package
    raise ImportError(
        "nnunet_xmodal was imported from a checkout that is not installed: run `pip install -e .` in it, "
        "or leave that folder if the package is already installed."
    )
