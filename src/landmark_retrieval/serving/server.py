"""A small web page on which one drops a photo and sees what is found and why, and the same as JSON."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Awaitable, Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.middleware.trustedhost import TrustedHostMiddleware
from fastapi.responses import HTMLResponse

from landmark_retrieval.collection import split_counts
from landmark_retrieval.images import UnreadableImageError, image_sources, load_image
from landmark_retrieval.reporting.thumbnails import thumbnail
from landmark_retrieval.retrieval import Found, PhotoSearch, SearchIndex
from landmark_retrieval.serving.answers import as_json
from landmark_retrieval.serving.page import SIDE, PhotoPage, render_results, render_upload_page

logger = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000
"""Uploaded photos with more pixels are refused before they are decoded."""

MAX_RESULTS = 100

SECURITY = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

Results = Annotated[int, Query(ge=1, le=MAX_RESULTS)]


def create_app(
    search: PhotoSearch, data_set: str, max_mib: float = 16.0, hosts: tuple[str, ...] = ("*",)
) -> FastAPI:
    """Return the application.

    Args:
        search: search of the index.
        data_set: its name.
        max_mib: largest upload in MiB; larger ones are answered with 413 before they are read to the end.
        hosts: host names that requests may name (against DNS rebinding); `*` for any.
    """
    app = FastAPI(title="Landmark retrieval", docs_url=None, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    app.middleware("http")(secure)
    _add_page(app, search.index, data_set, max_mib)
    _add_search(app, search, max_mib)
    return app


async def secure(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer a request, with the headers that every answer carries."""
    response = await call(request)
    response.headers.update(SECURITY)
    return response


def _add_page(app: FastAPI, index: SearchIndex, data_set: str, max_mib: float) -> None:
    """Add the page for the photo and all that it shows."""
    sources = image_sources(index.images)

    @app.get("/", response_class=HTMLResponse)
    def page() -> str:
        landmarks = int(index.images["landmark_id"].nunique())
        return render_upload_page(data_set, split_counts(index.images), max_mib, landmarks)

    @app.get("/page.css")
    def style() -> Response:
        return Response(_asset("report.css", "reporting") + _asset("search.css"), media_type="text/css")

    @app.get("/page.js")
    def script() -> Response:
        return Response(_asset("page.js"), media_type="text/javascript")

    @app.get("/pictures/{row}")
    def picture(row: int) -> Response:
        if not 0 <= row < len(sources):
            raise HTTPException(404, f"there is no image {row}")
        cached = {"cache-control": "max-age=3600"}
        return Response(thumbnail(sources[row], SIDE), media_type="image/jpeg", headers=cached)

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"data_set": data_set, "images": split_counts(index.images)}


def _add_search(app: FastAPI, search: PhotoSearch, max_mib: float) -> None:
    """Add the search, answered as a page and as JSON."""
    index = search.index
    one_at_a_time = threading.Lock()

    def find(photo: bytes, results: int) -> Found:
        with tempfile.TemporaryDirectory() as folder, one_at_a_time:
            path = Path(folder) / "photo"
            path.write_bytes(photo)
            load_image(path, max_pixels=MAX_PIXELS)
            return search.find(str(path), results)

    async def found_in(request: Request, results: int) -> Found:
        photo = await read_limited(request, int(max_mib * 2**20))
        try:
            return await run_in_threadpool(find, photo, results)
        except UnreadableImageError as error:
            raise HTTPException(422, f"not a photo that can be read: {error}") from None

    @app.post("/search", response_class=HTMLResponse)
    async def results_as_page(request: Request, name: str = "photo", results: Results = 20) -> str:
        found = await found_in(request, results)
        # The browser has the photo already: the script fills in its own copy where the address is empty.
        return render_results(PhotoPage(name[:200], "", found), index, lambda row: f"/pictures/{row}")

    @app.post("/api/search")
    async def results_as_json(request: Request, results: Results = 20) -> dict[str, Any]:
        return as_json(await found_in(request, results), index.ids)


async def read_limited(request: Request, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: 413 when it is longer than `limit` bytes, 422 when it is empty.
    """
    too_long = HTTPException(413, f"the photo is larger than {limit / 2**20:g} MiB")
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise too_long
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_long
    if not body:
        raise HTTPException(422, "send the photo as the body of the request")
    return bytes(body)


def _asset(name: str, package: str = "serving") -> str:
    return (resources.files(f"landmark_retrieval.{package}") / "templates" / name).read_text(encoding="utf-8")
