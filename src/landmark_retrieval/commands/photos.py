"""The look at a folder of photos that comes before a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kedro.config import OmegaConfigLoader

FOLDER_TYPE = "landmark_retrieval.io.ImageFolderDataset"
"""Type of the catalog entries of photo folders; other photos are looked at when their node reads them."""


def check_photos(config: OmegaConfigLoader) -> None:
    """Read the folder or table of photos that a run will read, and stop at what is wrong with it.

    Args:
        config: reads the configuration of the run.

    Raises:
        LandmarkRetrievalError: names all faults.
    """
    from landmark_retrieval.errors import LandmarkRetrievalError

    entry = config["catalog"].get("photos", {})
    if entry.get("type") != FOLDER_TYPE:
        return
    from landmark_retrieval.collection.folder import read_collection
    from landmark_retrieval.collection.image_table import DataSetConfig, prepare_collection

    if not Path(entry["filepath"]).expanduser().exists():
        raise LandmarkRetrievalError(
            f"{entry['filepath']}: no such folder; give your photos with `--params image_root=DIR`"
        )
    data_set = DataSetConfig.model_validate(config["parameters"]["data_set"])
    logging.disable()  # the run says the same again
    try:
        raw = read_collection(
            entry["filepath"],
            entry.get("allow_outside", False),
            entry["labels"],
            not entry.get("descriptors"),
        )
        prepare_collection(raw, data_set)
    finally:
        logging.disable(logging.NOTSET)
