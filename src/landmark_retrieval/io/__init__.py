"""Kedro datasets this project needs; named in the catalog as `landmark_retrieval.io.<class>`."""

from landmark_retrieval.io.array_bundle import ArrayBundleDataset
from landmark_retrieval.io.collection_page import CollectionPageDataset
from landmark_retrieval.io.configuration_json import ConfigurationDataset
from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.io.html import HtmlDataset
from landmark_retrieval.io.image_folder import ImageFolderDataset
from landmark_retrieval.io.making import MakingDataset, RunFactsDataset
from landmark_retrieval.io.mlflow_run import MlflowVariantRunDataset
from landmark_retrieval.io.optional_json import OptionalJSONDataset
from landmark_retrieval.io.sharded import ShardedDataset
from landmark_retrieval.io.store import StoreDataset
from landmark_retrieval.io.trained import AttentionDataset, TrainedDescriptorDataset
from landmark_retrieval.io.whole import CSVDataset, JSONDataset, ParquetDataset, TextDataset

__all__ = [
    "ArrayBundleDataset",
    "ArtifactError",
    "AttentionDataset",
    "CSVDataset",
    "CollectionPageDataset",
    "ConfigurationDataset",
    "HtmlDataset",
    "ImageFolderDataset",
    "JSONDataset",
    "MakingDataset",
    "MlflowVariantRunDataset",
    "OptionalJSONDataset",
    "ParquetDataset",
    "RunFactsDataset",
    "ShardedDataset",
    "StoreDataset",
    "TextDataset",
    "TrainedDescriptorDataset",
]
