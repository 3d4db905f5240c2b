"""The library finds what a run found, without Kedro, and says how sure it is."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kedro_project import ROOT, Project
from landmark_retrieval import Index, Landmark, SearchResult
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


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_turned_photo_is_found_like_an_upright_one(
    index: Index, finished_project: Project, turn: int
) -> None:
    picture = Image.open(queries(finished_project)[0]).convert("RGB")
    upright, turned = index.search(picture, 1), index.search(picture.rotate(turn, expand=True), 1)
    assert turned.results[0].id == upright.results[0].id
    assert turned.found == upright.found


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


@pytest.fixture
def own_index(project_with_results: Project) -> Index:
    return Index.open(project_with_results.root / "data", "tiny")


def shown(found: SearchResult) -> list[tuple[str, float, str]]:
    return [(match.id, match.probability, match.evidence) for match in found.results]


def test_photos_are_deleted_and_added_for_every_process(
    own_index: Index, project_with_results: Project
) -> None:
    root = project_with_results.root
    photo, other = queries(project_with_results)[:2]
    reader, before = Index.open(root / "data", "tiny"), own_index.search(photo, 20)
    lost = before.results[0].id
    own_index.delete([lost])
    assert lost not in own_index and len(reader) == len(before.results) - 1
    assert lost not in [match.id for match in reader.search(photo, 20).results]
    (name,) = own_index.add([photo])
    found = reader.search(photo, 20)
    assert name in reader and found.found and found.results[0].id == name
    assert reader.picture(name).read_bytes() == photo.read_bytes()
    assert own_index.add([photo.read_bytes()]) == [name]  # the same bytes are the same photo
    assert own_index.add([other], ids=["mine"], landmarks=["A place"]) == ["mine"]
    assert reader.search(other, 1).landmark == Landmark("A place", reader.search(other, 1).probability)
    own_index.delete([name, "mine"])
    assert own_index.add([root / "photos" / "images" / f"{lost}.jpg"]) == [lost]
    after = Index.open(root / "data", "tiny").search(photo, 20)
    assert after.results == before.results
    assert not list((root / "data" / "06_models" / "tiny" / "changes" / "pictures").iterdir())


def test_what_cannot_be_added_or_deleted_changes_nothing(
    own_index: Index, project_with_results: Project, tmp_path: Path
) -> None:
    photo, before = queries(project_with_results)[0], own_index.ids
    broken = tmp_path / "broken.jpg"
    broken.write_text("no photo")
    with pytest.raises(UnreadableImageError, match=r"photo 2 \(broken\): cannot be decoded"):
        own_index.add([photo, broken])
    with pytest.raises(LandmarkRetrievalError, match=f"has another photo '{before[0]}'; give this one"):
        own_index.add([photo], ids=[before[0]])
    with pytest.raises(LandmarkRetrievalError, match="has no photo 'nobody'"):
        own_index.delete([before[0], "nobody"])
    assert own_index.ids == before


def test_a_second_writer_is_told_who_writes(own_index: Index, project_with_results: Project) -> None:
    changes = own_index._changes
    with changes.writing(wait=0), pytest.raises(LandmarkRetrievalError, match=r"process \d+ is changing"):
        Index.open(project_with_results.root / "data", "tiny").delete(own_index.ids[:1], wait=0.1)
    own_index.delete(own_index.ids[:1], wait=0.1)


def test_the_example_of_the_docs_runs(
    project_with_results: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    example = re.findall(r"^```py\n(.*?)^```", page, re.M | re.S)[0]
    photo = queries(project_with_results)[0]
    example = example.replace('"demo"', '"tiny"')
    example = re.sub(r'"data/01_raw/demo/images/[^"]*"', repr(str(photo)), example)
    with project_with_results.entered():
        exec(compile(example, "docs/library.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("6 photos, ") and len(lines) == 2 + 5
