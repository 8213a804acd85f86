"""Preprocessed cases, as much of nnU-Net's dataset as this project asks for."""

from collections.abc import Sequence
from typing import Any, Protocol


class PreprocessedCases(Protocol):
    """Cases by name: nnU-Net's dataset, and what stands in its place."""

    @property
    def identifiers(self) -> Sequence[str]:
        """Return the names of the cases."""

    def load_case(self, case: str) -> tuple[Any, Any, Any, dict]:
        """Return images `(C, *spatial)`, labels `(1, *spatial)`, those of a previous stage or None, and properties.

        Arrays may lie on disk until they are sliced; properties are what nnU-Net's reader and preprocessor have noted.
        """


class CasesOnDisk(PreprocessedCases, Protocol):
    """Preprocessed cases in a folder."""

    @property
    def source_folder(self) -> str:
        """Return the folder, `nnUNet_preprocessed/DATASET/<data_identifier>`."""
