"""Readers: what a data set is on disk becomes one image table."""

from landmark_retrieval.data_sets.folder import read_image_folder
from landmark_retrieval.data_sets.image_table import (
    NO_LANDMARK,
    SPLITS,
    USAGES,
    DataSetConfig,
    SplitRows,
    landmark_of,
    prepare_image_table,
    relevant_index_rows,
    split_counts,
)
from landmark_retrieval.data_sets.splits import draw_splits

__all__ = [
    "NO_LANDMARK",
    "SPLITS",
    "USAGES",
    "DataSetConfig",
    "SplitRows",
    "draw_splits",
    "landmark_of",
    "prepare_image_table",
    "read_image_folder",
    "relevant_index_rows",
    "split_counts",
]
