"""A search in the index of a finished run."""

from __future__ import annotations

import pytest

from kedro_project import Project
from landmark_retrieval.pipelines.features.pipeline import DESCRIPTORS
from landmark_retrieval.search import PhotoSearch, read_index


@pytest.fixture(scope="session")
def photo_search(finished_project: Project) -> PhotoSearch:
    """A search in the index of `finished_project`."""
    catalog = finished_project.catalog()
    with finished_project.entered():
        return PhotoSearch(read_index(catalog.load, DESCRIPTORS))
