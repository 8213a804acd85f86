"""nnU-Net v2 for several imaging modalities at once."""

from importlib.util import find_spec
from pathlib import Path

__version__ = "0.1.0"

# An installation puts `trainers/` and `planners/` inside the package; in a checkout they lie beside it.
if find_spec("nnunet_xmodal.trainers") is None:
    __path__.append(str(Path(__file__).resolve().parents[1]))
