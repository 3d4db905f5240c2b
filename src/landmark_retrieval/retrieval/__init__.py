"""Finding a new photo in an index that is already built, by the same steps as a query of a run."""

from landmark_retrieval.retrieval.index import (
    DescriptorSteps,
    RunIndex,
    SearchIndex,
    read_index,
    read_run_index,
)
from landmark_retrieval.retrieval.photo import PhotoSearch
from landmark_retrieval.retrieval.search import DescriptorSearch, Found, Result

__all__ = [
    "DescriptorSearch",
    "DescriptorSteps",
    "Found",
    "PhotoSearch",
    "Result",
    "RunIndex",
    "SearchIndex",
    "read_index",
    "read_run_index",
]
