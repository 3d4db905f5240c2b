"""The look at a folder of photos that comes before anything heavy is loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER_TYPE = "landmark_retrieval.io.ImageFolderDataset"
"""Type of the catalog entries of photo folders; other photos are looked at when their node reads them."""


def check_photos(env: str | None, conf_source: str | None, params: Mapping[str, Any]) -> None:
    """Read the folder or table of photos that a run will read, and stop at what is wrong with it.

    Neither MLflow nor PyTorch is loaded for it.

    Args:
        env: as given on the command line.
        conf_source: folder with the environments; None for the project's own. An archive is not looked into.
        params: runtime parameters.

    Raises:
        LandmarkRetrievalError: names all faults.
    """
    from landmark_retrieval.config_loader import CONFIG_LOADER_ARGS, ConfigLoader
    from landmark_retrieval.errors import LandmarkRetrievalError

    folder = Path(conf_source or "conf")
    if not folder.is_dir():
        return
    config = ConfigLoader(
        str(folder),
        env=env or os.environ.get("KEDRO_ENV"),
        runtime_params=dict(params),
        **CONFIG_LOADER_ARGS,
    )
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
