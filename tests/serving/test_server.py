"""The web page: what it answers, what it refuses, and what it lets nobody do."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from kedro_project import Project
from landmark_retrieval.retrieval import PhotoSearch
from landmark_retrieval.serving.server import create_app


@pytest.fixture(scope="module")
def client(photo_search: PhotoSearch, finished_project: Project) -> Iterator[TestClient]:
    app = create_app(photo_search, "tiny", max_mib=1.0, hosts=("127.0.0.1", "localhost"))
    with finished_project.entered(), TestClient(app, base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture(scope="module")
def photo(photo_search: PhotoSearch, finished_project: Project) -> bytes:
    return (finished_project.root / Path(photo_search.index.images["path"].iloc[0])).read_bytes()


def test_page_with_its_style_and_script(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "Find a landmark in tiny" in page.text and "<b>6</b> index images" in page.text
    assert "script-src" not in page.headers["content-security-policy"]
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript")):
        assert f"/{name}" in page.text
        assert client.get(f"/{name}").headers["content-type"].startswith(kind)


def test_json_is_what_the_search_finds(
    client: TestClient, photo: bytes, photo_search: PhotoSearch, finished_project: Project
) -> None:
    answer = client.post("/api/search?results=3", content=photo).json()
    found = photo_search.find(photo_search.index.images["path"].iloc[0], 3)
    assert [result["image_id"] for result in answer["results"]] == [r.image_id for r in found.results]
    assert [result["rank"] for result in answer["results"]] == [1, 2, 3]
    assert [result["inliers"] for result in answer["results"]] == [r.inliers for r in found.results]
    assert all(result["path"][-1]["image_id"] == result["image_id"] for result in answer["results"])


def test_results_as_html_show_pictures_that_exist(client: TestClient, photo: bytes) -> None:
    page = client.post("/search?results=2&name=my <photo>.jpg", content=photo)
    assert page.status_code == 200
    assert "my &lt;photo&gt;.jpg" in page.text and "<photo>" not in page.text
    address = page.text.split('src="/pictures/')[1].split('"')[0]
    picture = client.get(f"/pictures/{address}")
    assert Image.open(io.BytesIO(picture.content)).format == "JPEG"


def test_too_large_uploads_are_refused_before_they_are_read(client: TestClient) -> None:
    too_large = client.post("/search", content=bytes(2**20 + 1))
    assert too_large.status_code == 413
    assert too_large.json() == {"detail": "the photo is larger than 1 MiB"}

    def endless() -> Iterator[bytes]:
        for _ in range(64):
            yield bytes(2**16)

    assert client.post("/search", content=endless()).status_code == 413  # its length is not announced


def test_what_is_no_photo_is_refused(client: TestClient) -> None:
    assert client.post("/api/search", content=b"").status_code == 422
    garbage = client.post("/api/search", content=b"%!PS-Adobe-3.0 EPSF-3.0\n")
    assert garbage.status_code == 422
    assert "not a photo that can be read" in garbage.json()["detail"]
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG", optimize=True)
    assert len(bomb.getvalue()) < 2**20
    refused = client.post("/api/search", content=bomb.getvalue())
    assert refused.status_code == 422 and "pixels" in refused.json()["detail"]


def test_only_images_of_the_table_are_shown(client: TestClient, photo_search: PhotoSearch) -> None:
    count = len(photo_search.index.images)
    assert client.get(f"/pictures/{count - 1}").status_code == 200
    assert client.get(f"/pictures/{count}").status_code == 404
    assert client.get("/pictures/-1").status_code == 404
    assert client.get("/pictures/..%2f..%2fimages.csv").status_code in (404, 422)


def test_results_are_limited_and_other_hosts_refused(client: TestClient, photo: bytes) -> None:
    assert client.post("/api/search?results=101", content=photo).status_code == 422
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    assert client.get("/health").json()["images"] == {"query": 3, "index": 6, "train": 5}
