"""Kedro's own datasets of single files, written whole: what was there stays until the new file is."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro_datasets import json, pandas, text

from landmark_retrieval.runtime.files import whole_file


class WrittenWhole:
    """Makes a dataset of one local file write it whole; elsewhere the file system does as it does."""

    _filepath: PurePosixPath
    _protocol: str

    def save(self, data: Any) -> None:
        """Write the file beside the one that is there, and put it in its place.

        Raises:
            NoSpaceError: the file system is full; nothing is left of the new file.
        """
        if self._protocol != "file":
            super().save(data)  # type: ignore[misc]
            return
        file = self._filepath
        with whole_file(Path(file)) as temporary:
            self._filepath = PurePosixPath(temporary)
            try:
                super().save(data)  # type: ignore[misc]
            finally:
                self._filepath = file


class CSVDataset(WrittenWhole, pandas.CSVDataset):
    """A table as CSV."""


class ParquetDataset(WrittenWhole, pandas.ParquetDataset):
    """A table as Parquet."""


class JSONDataset(WrittenWhole, json.JSONDataset):
    """Plain values as JSON."""


class TextDataset(WrittenWhole, text.TextDataset):
    """Text."""
