"""The library finds what a run found, without Kedro, and says how sure it is."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kedro_project import Project
from landmark_retrieval import Index
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError
from landmark_retrieval.retrieval.artifacts import RunFiles
from variant_names import VARIANTS

READ = (
    *("image_table", "search_options", "local_features", "local_features_pca", "verified_pairs"),
    *("pair_probabilities", "inlier_fits", "traversal_options", "aggregated.codebook"),
    *("gem.raw_descriptors", "dir.region_whitening", "gem.whitening", "aggregated.descriptors"),
    *("blend.descriptors", "blend.neighbor_shards", "blend.knn_graph", "blend_qe_sv.descriptors"),
    *("blend_qe_sv.index_graph", "blend_qe_sv.label_evidence", "blend_qe_sv.label_bridge"),
)


@pytest.fixture(scope="module")
def index(finished_project: Project) -> Index:
    return Index.open(finished_project.root / "data", "tiny")


def queries(project: Project) -> list[Path]:
    images = project.load("image_table")
    return [project.root / path for path in images[images["split"] == "query"]["path"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_search_gives_the_ranking_of_the_run(index: Index, finished_project: Project, variant: str) -> None:
    ranking = finished_project.load(f"{variant}.ranking").rows
    for query, photo in enumerate(queries(finished_project)):
        found = index.search(photo, 100, variant)
        assert [match.id for match in found.results] == [
            index.ids[row] for row in ranking[query][ranking[query] >= 0]
        ]


def test_artifacts_are_read_from_where_the_catalog_writes_them(finished_project: Project) -> None:
    files, catalog = RunFiles(finished_project.root / "data", "tiny"), finished_project.catalog()
    for name in READ:
        described = catalog.get(name)._describe()
        assert finished_project.root / str(described["filepath"]) == files.place(name)[0], name


def test_a_photo_may_be_a_file_its_bytes_a_picture_or_pixels(index: Index, finished_project: Project) -> None:
    file = queries(finished_project)[0]
    from_file = index.search(file, 3)
    from_bytes = index.search(file.read_bytes(), 3)
    assert from_bytes.results == from_file.results
    picture = Image.open(file).convert("RGB")
    lossless = io.BytesIO()
    picture.save(lossless, "PNG")
    expected = [match.id for match in index.search(lossless.getvalue(), 3).results]
    assert [match.id for match in index.search(picture, 3).results] == expected
    assert [match.id for match in index.search(np.asarray(picture), 3).results] == expected


def test_what_is_no_photo_is_refused(index: Index, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match="file not found"):
        index.search(tmp_path / "none.jpg")
    with pytest.raises(UnreadableImageError, match="no picture of a known kind"):
        index.search(b"text")
    with pytest.raises(UnreadableImageError, match=r"an array of float64 \[4\] where uint8"):
        index.search(np.zeros(4))
    with pytest.raises(LandmarkRetrievalError, match="results: 0 is less than 1"):
        index.search(b"", results=0)


def test_an_index_knows_its_photos(index: Index, finished_project: Project) -> None:
    images = finished_project.load("image_table")
    indexed = images[images["split"] == "index"]
    assert len(index) == len(indexed) and index.ids == indexed["image_id"].tolist()
    assert index.picture(index.ids[0]).samefile(finished_project.root / indexed["path"].iloc[0])
    with pytest.raises(LandmarkRetrievalError, match="has no photo 'nobody'"):
        index.picture("nobody")
    with pytest.raises(LandmarkRetrievalError, match="no finished run of 'other'; there is tiny"):
        Index.open(finished_project.root / "data", "other")


def test_no_kedro_is_loaded(finished_project: Project, tmp_path: Path) -> None:
    code = (
        "import sys, landmark_retrieval\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)\n"
        f"found = landmark_retrieval.Index.open({str(finished_project.root / 'data')!r}, 'tiny')"
        f".search({str(queries(finished_project)[0])!r}, 3)\n"
        "assert len(found) == 3\n"
        "assert not [name for name in sys.modules if name.startswith(('kedro', 'mlflow'))]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
