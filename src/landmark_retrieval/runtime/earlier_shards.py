"""Shards of versions before the store: kept by the row of a table, and of no use to this one.

They cannot be taken over: descriptors were stored behind a whitening layer, local features and pairs under
digests of whole shards of rows.
"""

from __future__ import annotations

import shutil
from pathlib import Path

FOLDERS = (
    "02_intermediate/*/image_contents",
    "02_intermediate/*/*/region_whitening",
    "02_intermediate/*/local_features_pca",
    "03_primary/*/*/raw_descriptors",
    "03_primary/*/local_features",
    "05_model_input/*/verification_shards",
    "05_model_input/*/held_out/verification_shards",
)
"""Where they lay below the folder of data."""

SUFFIXES = (".npz", ".seconds", ".json", ".tmp")


def earlier_shards(data: Path) -> dict[Path, int]:
    """Return the folders of such shards below a folder of data, with their sizes in bytes."""
    found = {}
    for pattern in FOLDERS:
        for folder in sorted(data.glob(pattern)):
            files = [
                file for file in folder.iterdir() if file.suffix in (".npz", ".seconds", ".json", ".tmp")
            ]
            if files and not (folder / "bundle.json").exists():
                found[folder] = sum(file.stat().st_size for file in files)
    return found


def delete_earlier_shards(data: Path) -> None:
    """Delete the folders of such shards."""
    for folder in earlier_shards(data):
        shutil.rmtree(folder)
