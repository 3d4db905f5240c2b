"""What programs ask: search, add, delete, pictures, groups, and how the service is."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse
from PIL import Image
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError, load_image
from landmark_retrieval.reporting.thumbnails import thumbnail
from landmark_retrieval.retrieval.answers import SearchResult
from landmark_retrieval.serving import schemas
from landmark_retrieval.serving.collection import Collection, Holder, answer_of, photo_of
from landmark_retrieval.serving.metrics import Metrics
from landmark_retrieval.serving.uploads import MAX_PHOTOS, Upload, as_files, read_photos
from landmark_retrieval.serving.work import Work

MAX_RESULTS = 100

THUMBNAIL = 400
"""Long side of thumbnails in pixels."""

SHOWN = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
"""Formats that every browser shows; others are sent as JPEG."""

PICTURE_SCHEMA: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

Results = Annotated[int, Query(ge=1, le=MAX_RESULTS, description="most results")]
PhotoId = Annotated[str, InPath(description="id of a photo of the collection", examples=["sacre_coeur_02"])]


def photo_body(several: bool) -> dict[str, Any]:
    """Return the part of the interface's description that says how photos are sent."""
    photo = {"type": "string", "format": "binary"}
    field: dict[str, Any] = {"type": "array", "items": photo, "minItems": 1, "maxItems": MAX_PHOTOS}
    form = {"type": "object", "properties": {"photo": field if several else photo}, "required": ["photo"]}
    content = {
        "multipart/form-data": {"schema": form},
        "application/octet-stream": {"schema": photo},
        "image/jpeg": {"schema": photo},
    }
    return {"requestBody": {"required": True, "content": content}}


def add_api(app: FastAPI, holder: Holder, work: Work, metrics: Metrics, limit: int) -> None:
    """Add all addresses for programs.

    Args:
        app: the application.
        holder: of the collection.
        work: runs searches.
        metrics: that `/metrics` shows.
        limit: bytes of a photo.
    """
    _add_search(app, holder, work, limit)
    _add_photos(app, holder, work, limit)
    _add_pictures(app, holder, work)
    _add_state(app, holder, metrics)


def served(holder: Holder) -> Collection:
    """Return the collection.

    Raises:
        HTTPException: 503 while it is being opened.
    """
    if holder.collection is None:
        raise HTTPException(503, "the collection is being opened", {"retry-after": "2"})
    return holder.collection


async def found_in(request: Request, holder: Holder, work: Work, limit: int, results: int) -> SearchResult:
    """Return what is found for the photo of a request."""
    collection = served(holder)

    def find(photo: Upload) -> SearchResult:
        with as_files([photo]) as (file,):
            return collection.search(file, results)

    with work.admit():
        (photo,) = await read_photos(request, limit)
        return await work.run(find, photo)


def _add_search(app: FastAPI, holder: Holder, work: Work, limit: int) -> None:
    @app.post("/api/search", tags=["search"], openapi_extra=photo_body(several=False))
    async def search(request: Request, results: Results = 20) -> schemas.Answer:
        """Find the photos of the place that a photo shows, or say that there is none."""
        return answer_of(await found_in(request, holder, work, limit, results))

    @app.get("/api/groups", tags=["photos"])
    async def groups(
        photos: Annotated[int, Query(ge=1, le=MAX_RESULTS, description="most photos a group")] = 20,
        first: Annotated[int, Query(ge=0, le=2**31, description="groups that are left out at the start")] = 0,
        count: Annotated[int, Query(ge=1, le=1000, description="most groups")] = 100,
    ) -> schemas.Groups:
        """List the groups of photos of one place, the largest first."""
        found = await run_in_threadpool(served(holder).groups)
        return schemas.Groups(
            total=len(found),
            groups=[
                schemas.Group(size=len(group), photos=[photo_of(one) for one in group[:photos]])
                for group in found[first : first + count]
            ],
        )


def _add_photos(app: FastAPI, holder: Holder, work: Work, limit: int) -> None:
    @app.post("/api/photos", status_code=201, tags=["photos"], openapi_extra=photo_body(several=True))
    async def add(request: Request) -> schemas.Added:
        """Add photos to the collection: all of them, or none where one cannot be read."""
        collection = served(holder)

        def put(photos: list[Upload]) -> list[str]:
            with as_files(photos) as files, holder.writing:
                return collection.add(files)

        with work.admit():
            photos = await read_photos(request, limit, MAX_PHOTOS)
            added = await work.run(put, photos)
        return schemas.Added(added=[photo_of(image_id) for image_id in added])

    @app.delete("/api/photos/{photo_id:path}", status_code=204, response_class=Response, tags=["photos"])
    async def delete(photo_id: PhotoId) -> None:
        """Take a photo out of the collection; searches do not find it any more. Its file is kept."""
        collection = served(holder)

        def take() -> None:
            with holder.writing:
                _file(collection, photo_id)
                collection.delete([photo_id])

        with work.admit():
            await work.run(take)


def _add_pictures(app: FastAPI, holder: Holder, work: Work) -> None:
    cached = {"cache-control": "private, max-age=3600"}
    pictures: dict[int | str, dict[str, Any]] = {
        200: {"content": dict.fromkeys(SHOWN.values(), PICTURE_SCHEMA)}
    }

    @app.get(
        "/api/photos/{photo_id:path}/thumbnail",
        tags=["photos"],
        response_class=Response,
        responses={200: {"content": {"image/jpeg": PICTURE_SCHEMA}}},
    )
    def small(photo_id: PhotoId) -> Response:
        """Return a small picture of a photo."""
        picture = thumbnail(str(_file(served(holder), photo_id)), THUMBNAIL)
        return Response(picture, media_type="image/jpeg", headers=cached)

    @app.get("/api/photos/{photo_id:path}", tags=["photos"], response_class=Response, responses=pictures)
    def whole(photo_id: PhotoId) -> Response:
        """Return the picture of a photo: its own file where browsers show it, else a JPEG of it."""
        file = _file(served(holder), photo_id)
        try:
            with Image.open(file) as image:
                kind = SHOWN.get(image.format or "")
            if kind is not None:
                return FileResponse(file, media_type=kind, headers=cached)
            stream = io.BytesIO()
            load_image(file).save(stream, "JPEG", quality=90)
        except (UnreadableImageError, OSError):
            raise HTTPException(404, "the file of this photo cannot be read any more") from None
        return Response(stream.getvalue(), media_type="image/jpeg", headers=cached)


def _file(collection: Collection, photo_id: str) -> Path:
    """Return the file of a photo of the collection.

    Ids are looked up, they are never parts of a path: nothing but the photos of the collection can be read.
    """
    try:
        return collection.picture(photo_id)
    except LandmarkRetrievalError:
        raise HTTPException(404, "there is no such photo in the collection") from None


def _add_state(app: FastAPI, holder: Holder, metrics: Metrics) -> None:
    @app.get("/health", tags=["state"])
    async def health() -> schemas.Health:
        """Tell that the process answers."""
        return schemas.Health()

    @app.get("/ready", tags=["state"])
    async def ready() -> schemas.Ready:
        """Tell that the collection can be searched; 503 while it is being opened."""
        collection = served(holder)
        return schemas.Ready(collection=collection.name, photos=len(collection))

    @app.get(
        "/metrics",
        tags=["state"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def show_metrics() -> Response:
        """Return what Prometheus reads."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
