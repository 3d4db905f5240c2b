"""Readers: what a data set is on disk becomes one image table."""

from landmark_retrieval.collection.contents import ImageContents, digest_photos
from landmark_retrieval.collection.folder import RawCollection, only_table, read_collection, read_image_folder
from landmark_retrieval.collection.hold_out import SOURCE_ROW, hold_out_train
from landmark_retrieval.collection.image_table import (
    NO_LANDMARK,
    SPLITS,
    USAGES,
    DataSetConfig,
    SplitRows,
    landmark_of,
    prepare_collection,
    prepare_image_table,
    relevant_index_rows,
    split_counts,
)
from landmark_retrieval.collection.rows import has_truth, landmark_names
from landmark_retrieval.collection.splits import draw_splits

__all__ = [
    "NO_LANDMARK",
    "SOURCE_ROW",
    "SPLITS",
    "USAGES",
    "DataSetConfig",
    "ImageContents",
    "RawCollection",
    "SplitRows",
    "digest_photos",
    "draw_splits",
    "has_truth",
    "hold_out_train",
    "landmark_names",
    "landmark_of",
    "only_table",
    "prepare_collection",
    "prepare_image_table",
    "read_collection",
    "read_image_folder",
    "relevant_index_rows",
    "split_counts",
]
