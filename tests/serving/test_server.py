"""The service: what it answers, what it refuses, and what it lets nobody do."""

from __future__ import annotations

import base64
import http.client
import io
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from fake_collection import FakeCollection
from kedro_project import Project
from landmark_retrieval import Index
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.serving import uploads
from landmark_retrieval.serving.server import Options, create_app

TOKEN = "0123456789abcdef"


@contextmanager
def client_of(collection: Any, **options: Any) -> Iterator[TestClient]:
    chosen = Options(**{"max_mib": 1.0, "hosts": ("127.0.0.1",), "workers": 2, **options})
    with TestClient(create_app(lambda: collection, chosen), base_url="http://127.0.0.1") as client:
        while client.get("/ready").status_code == 503:
            time.sleep(0.01)
        yield client


@pytest.fixture
def collection(tmp_path: Path) -> FakeCollection:
    return FakeCollection(tmp_path)


@pytest.fixture
def client(collection: FakeCollection) -> Iterator[TestClient]:
    with client_of(collection) as client:
        yield client


def picture(color: tuple[int, int, int] = (200, 10, 10), kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), color).save(stream, kind)
    return stream.getvalue()


def test_an_index_answers_what_it_finds(finished_project: Project) -> None:
    with finished_project.entered():
        (name,) = (file.parent.name for file in Path("data/06_models").glob("*/search_options.json"))
        index = Index.open("data", name)
        photo = index.picture(index.ids[0])
        expected = index.search(photo, 3)
        with client_of(index, max_mib=16.0) as client:
            raw = client.post("/api/search?results=3", content=photo.read_bytes()).json()
            form = client.post("/api/search?results=3", files={"photo": photo.read_bytes()}).json()
            small = client.get(raw["results"][0]["thumbnail"])
    assert [match["id"] for match in raw["results"]] == [match.id for match in expected.results]
    assert [match["probability"] for match in raw["results"]] == [
        match.probability for match in expected.results
    ]
    assert (raw["found"], raw["probability"]) == (expected.found, expected.probability)
    assert {**raw, "seconds": 0} == {**form, "seconds": 0}
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"


def test_a_photo_is_added_found_shown_and_deleted(client: TestClient) -> None:
    photo = picture()
    assert client.post("/api/search", content=photo).json()["found"] is False
    answer = client.post(
        "/api/photos", files=[("photo", ("a.png", photo)), ("photo", ("b.png", picture((1, 2, 3))))]
    )
    assert answer.status_code == 201
    added, second = answer.json()["added"]
    found = client.post("/api/search", files={"photo": photo}).json()
    assert found["found"] is True and found["results"][0]["id"] == added["id"]
    shown = client.get(added["picture"])
    assert shown.content == photo and shown.headers["content-type"] == "image/png"
    assert client.get("/ready").json()["photos"] == 5
    deleted = client.delete(added["picture"])
    assert (deleted.status_code, deleted.content, deleted.headers.get("content-type")) == (204, b"", None)
    assert client.delete(added["picture"]).status_code == 404
    assert client.get(added["picture"]).status_code == 404
    assert client.post("/api/search", content=photo).json()["found"] is False
    assert client.get(second["picture"]).status_code == 200


def test_none_is_added_where_one_cannot_be_read(client: TestClient) -> None:
    files = [("photo", ("good.png", picture())), ("photo", ("folder/bad.png", b"%!PS-Adobe-3.0"))]
    answer = client.post("/api/photos", files=files)
    assert answer.status_code == 422 and "bad.png" in answer.json()["detail"]
    assert client.get("/ready").json()["photos"] == 3


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("../../etc/x.png", "x.png"),
        ("..", "photo"),
        ("", "photo"),
        ("a\0b|c.jpg", "a_b_c.jpg"),
        ("Sacré Cœur.jpg", "Sacré_Cœur.jpg"),
        ("x" * 300 + ".jpg", "x" * 96 + ".jpg"),
    ],
)
def test_names_of_clients_lead_nowhere(given: str, plain: str) -> None:
    assert uploads.plain_name(given) == plain


def test_every_photo_of_a_result_has_addresses_that_work(client: TestClient) -> None:
    results = client.post("/api/search", content=picture()).json()["results"]
    assert [result["id"] for result in results] == ["first", "second place", "häuser/ü.jpg"]
    for photo in [*results, *(one for result in results for one in result["through"])]:
        assert client.get(photo["thumbnail"]).headers["content-type"] == "image/jpeg"
        Image.open(io.BytesIO(client.get(photo["picture"]).content)).load()  # a TIFF comes as a JPEG


def test_groups_come_in_parts(client: TestClient) -> None:
    groups = client.get("/api/groups?photos=1").json()
    assert groups["total"] == 1 and groups["groups"][0]["size"] == 2
    assert [photo["id"] for photo in groups["groups"][0]["photos"]] == ["first"]
    assert client.get("/api/groups?first=1").json() == {"total": 1, "groups": []}


@pytest.mark.parametrize("address", ["/search", "/api/search", "/api/photos"])
def test_what_is_no_photo_is_refused_in_one_line(client: TestClient, address: str) -> None:
    bomb = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(bomb, "PNG", optimize=True)
    assert len(bomb.getvalue()) < 2**20
    cut = picture(kind="JPEG")[:-200]
    for content in (b"", b"%!PS-Adobe-3.0 EPSF-3.0\n", bomb.getvalue(), cut, b"RIFF1234WEBPVP8 "):
        for answer in (
            client.post(address, content=content),
            client.post(address, files={"photo": ("../x.png", content)}),
        ):
            assert answer.status_code == 422, content[:20]
            assert list(answer.json()) == ["detail"]
            assert "\n" not in answer.json()["detail"] and "/tmp" not in answer.text
            assert uploads.tempfile.gettempdir() not in answer.text
    broken = client.post(address, content=b"x", headers={"content-type": "multipart/form-data"})
    assert broken.status_code == 422 and "form cannot be read" in broken.json()["detail"]


def test_only_photos_of_the_collection_are_shown(client: TestClient, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "secret.png")
    for name in (
        "../secret.png",
        "secret.png",
        str(tmp_path / "secret.png"),
        "..%2fsecret.png",
        "first/../0.jpg",
    ):
        for address in (name, name.replace("/", "%2F"), f"{name}/thumbnail"):
            assert client.get(f"/api/photos/{address}").status_code == 404
    for address in ("/docs/assets/../core.py", "/docs/assets/..%2fcore.py", "/docs/assets/%2e%2e/core.py"):
        assert client.get(address).status_code == 404


def test_results_are_limited_and_other_hosts_and_sites_refused(client: TestClient) -> None:
    refused = client.post("/api/search?results=101", content=picture())
    assert refused.status_code == 422 and refused.json()["detail"].startswith("results: ")
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400
    for headers in ({"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}):
        assert client.post("/api/photos", files={"photo": picture()}, headers=headers).status_code == 403
    own = {"origin": "http://127.0.0.1"}
    assert client.post("/api/photos", files={"photo": picture()}, headers=own).status_code == 201
    wrong = client.post("/health")
    assert wrong.status_code == 405 and wrong.headers["allow"] == "GET"


def test_the_token_opens_and_nothing_else_does(collection: FakeCollection) -> None:
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    with client_of(collection, token=TOKEN) as client:
        for address in ("/", "/api/groups", "/metrics", "/docs", "/openapi.json", "/api/photos/first"):
            for headers in ({}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": "Basic Zzzz"}):
                refused = client.get(address, headers=headers)
                assert refused.status_code == 401 and "www-authenticate" in refused.headers
            for value in (f"Bearer {TOKEN}", f"Basic {basic}"):
                assert client.get(address, headers={"authorization": value}).status_code == 200
        assert client.get("/health").status_code == 200


def test_the_interface_is_described_with_examples(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    body = described["paths"]["/api/search"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "application/octet-stream"} <= set(body)
    for name in ("Answer", "Match", "Added", "Groups", "Problem", "Ready"):
        assert schemas[name]["examples"], name
    page = client.get("/docs")
    assert page.status_code == 200 and "http" not in page.text.split("<body>")[1].split("openapi")[0]
    for asset in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert client.get(f"/docs/assets/{asset}").status_code == 200


def test_metrics_count_by_pattern(client: TestClient) -> None:
    client.get("/api/photos/first")
    client.get("/api/photos/nobody")
    text = client.get("/metrics").text
    pattern = 'route="/api/photos/{photo_id:path}"'
    assert f'landmark_requests_total{{method="GET",{pattern},status="200"}} 1.0' in text
    assert f'landmark_requests_total{{method="GET",{pattern},status="404"}} 1.0' in text
    assert "landmark_photos 3.0" in text and "nobody" not in text


def test_beyond_the_queue_it_says_when_to_come_back(collection: FakeCollection) -> None:
    collection.held.clear()
    with client_of(collection, workers=1, waiting=1) as client, ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(client.post, "/api/search", content=picture()) for _ in range(6)]
        deadline = time.monotonic() + 20
        while sum(one.done() for one in asked) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.get("/health").status_code == 200
        collection.held.set()
        answers = [one.result() for one in asked]
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429, 429]
    for answer in answers:
        if answer.status_code == 429:
            assert int(answer.headers["retry-after"]) >= 1 and "come back" in answer.json()["detail"]


def test_a_collection_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    told: list[Exception] = []

    def broken() -> FakeCollection:
        raise LandmarkRetrievalError("no index")

    with TestClient(create_app(broken, Options(), told.append)) as client:
        while not told:
            time.sleep(0.01)
        answer = client.get("/ready")
        assert client.get("/health").json() == {"status": "ok"}
    assert answer.status_code == 503 and "retry-after" in answer.headers and str(told[0]) == "no index"


def test_page_with_its_style_and_script(client: TestClient) -> None:
    page = client.get("/")
    assert "Find a landmark in fake" in page.text and '<b id="count">3</b> photos' in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert "unsafe" not in page.headers["content-security-policy"]
    for name, kind in (
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        assert f"/{name}" in page.text
        assert client.get(f"/{name}").headers["content-type"].startswith(kind)
    nothing = client.post("/search?name=my <photo>.jpg", content=picture()).text
    assert "my &lt;photo&gt;.jpg" in nothing and "<photo>" not in nothing
    assert "Nothing of this place here" in nothing and "what resembles it most" in nothing
    client.post("/api/photos", files={"photo": picture()})
    found = client.post("/search", content=picture()).text
    assert "Nothing of this place here" not in found and "somewhere" in found


@pytest.fixture
def address(collection: FakeCollection) -> Iterator[tuple[str, int]]:
    """A real server on a port of its own."""
    app = create_app(lambda: collection, Options(max_mib=1.0))
    # Its own configuration of logging would keep what it logs from pytest.
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join(20)


def test_a_large_upload_hears_its_refusal(address: tuple[str, int]) -> None:
    # urllib and others close the connection after their request, and write all of it before they read.
    for headers in ({"Connection": "close"}, {"Connection": "close", "Transfer-Encoding": "chunked"}):
        connection = http.client.HTTPConnection(*address, timeout=30)
        body = (bytes(2**16) for _ in range(17 * 16))
        connection.putrequest("POST", "/api/search")
        for name, value in headers.items():
            connection.putheader(name, value)
        chunked = "Transfer-Encoding" in headers
        if not chunked:
            connection.putheader("Content-Length", str(17 * 2**20))
        connection.endheaders(body, encode_chunked=chunked)
        answer = connection.getresponse()
        assert answer.status == 413
        assert json.loads(answer.read()) == {"detail": "the photo is larger than 1 MiB"}
        connection.close()


def test_a_client_that_asks_first_sends_nothing_for_nothing(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=20) as client:
        client.sendall(b"POST /api/search HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n")
        client.sendall(b"Expect: 100-continue\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_client_that_hangs_up_leaves_no_trace(
    address: tuple[str, int], collection: FakeCollection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    head = b"POST /api/search HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    with socket.create_connection(address) as client:
        client.sendall(head % 1000 + b"half")  # gone while it sends
    collection.held.clear()
    with socket.create_connection(address) as client:
        client.sendall(head % len(picture()) + picture())  # gone while it waits
        time.sleep(0.2)
    collection.held.set()
    connection = http.client.HTTPConnection(*address, timeout=30)
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    time.sleep(0.2)
    assert not caplog.records
