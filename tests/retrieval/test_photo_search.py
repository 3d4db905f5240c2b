"""A photo is ranked as a query of the run is, and every result says how it was reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kedro_project import Project
from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError
from landmark_retrieval.retrieval import PhotoSearch, read_index
from landmark_retrieval.verification import VerificationConfig
from variant_names import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_query_photo_gets_the_ranking_of_the_run(
    photo_search: PhotoSearch, finished_project: Project, variant: str
) -> None:
    ranking = finished_project.load(f"{variant}.ranking").rows
    images = photo_search.index.images
    with finished_project.entered():
        for query in range(len(ranking)):
            found = photo_search.find(images["path"].iloc[query], 100, variant)
            rows = [result.row - photo_search.index.rows.index.start for result in found.results]
            assert rows == ranking[query][ranking[query] >= 0].tolist()


def test_results_say_what_verification_found(photo_search: PhotoSearch, finished_project: Project) -> None:
    pairs = finished_project.load("verified_pairs")
    floor = VerificationConfig().floor("sift")
    images = photo_search.index.images
    known = {(a, b): n for a, b, n in pairs[["row_a", "row_b", "inliers"]].itertuples(index=False)}
    checked = 0
    with finished_project.entered():
        for query in range(photo_search.index.rows.query.stop):
            for result in photo_search.find(images["path"].iloc[query], 100).results:
                assert result.inliers == known.get((query, result.row))
                assert result.verified == (result.inliers is not None and result.inliers >= floor)
                checked += result.inliers is not None
    assert checked > 0


def test_trusted_paths_start_at_the_photo_and_end_at_the_result(
    photo_search: PhotoSearch, finished_project: Project
) -> None:
    index = photo_search.index
    with finished_project.entered():
        found = photo_search.find(index.images["path"].iloc[0], 100)
    assert found.results
    earlier: set[int] = set()
    for result in found.results:
        assert result.path[-1].row == result.row
        assert {step.row for step in result.path[:-1]} <= earlier
        earlier.add(result.row)
        for step in result.path:
            assert all(index.rows.train.start <= row < index.rows.train.stop for row in step.train_rows)


def test_an_index_image_finds_itself_first(photo_search: PhotoSearch, finished_project: Project) -> None:
    index = photo_search.index
    row = index.rows.index.start
    with finished_project.entered():
        found = photo_search.find(index.images["path"].iloc[row], 3, "blend")
    assert found.results[0].row == row
    assert found.results[0].similarity == pytest.approx(1, abs=1e-4)
    assert len(found.results) == 3


def test_unreadable_photo_and_unknown_variant(photo_search: PhotoSearch, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="file not found"):
        photo_search.find(str(tmp_path / "none.jpg"))
    with pytest.raises(LandmarkRetrievalError, match="unknown variant 'best': variants here are blend,"):
        photo_search.find("any.jpg", variant="best")


def test_other_parameters_than_those_of_the_index_are_refused(project_with_results: Project) -> None:
    for parameters, problem in (
        ({"gem": {"max_side": 128}}, r"gem: max_side 96 → 128"),
        ({"local_features": {"max_keypoints": 100}}, r"local_features: max_keypoints 200 → 100"),
        ({"verification": {"seed": 5}}, r"verification: seed 0 → 5"),
        ({"knn": {"k": 7}}, r"knn: k 100 → 7"),
    ):
        catalog = project_with_results.catalog(parameters)
        with (
            project_with_results.entered(),
            pytest.raises(LandmarkRetrievalError, match=f"built with other parameters .{problem}"),
        ):
            read_index(catalog.load, DESCRIPTORS)


def test_descriptors_have_unit_length(photo_search: PhotoSearch, finished_project: Project) -> None:
    with finished_project.entered():
        descriptor = photo_search.describe(photo_search.index.images["path"].iloc[0])
    stored = finished_project.load("blend.descriptors").matrix[:1]
    assert np.linalg.norm(descriptor) == pytest.approx(1, abs=1e-5)
    assert np.allclose(descriptor, stored, atol=1e-4)
