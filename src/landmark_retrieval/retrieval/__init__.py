"""Finding a new photo in an index that is already built, by the same steps as a query of a run."""

from landmark_retrieval.retrieval.index import DescriptorSteps, SearchIndex, read_index
from landmark_retrieval.retrieval.photo import Found, PhotoSearch, Result

__all__ = ["DescriptorSteps", "Found", "PhotoSearch", "Result", "SearchIndex", "read_index"]
