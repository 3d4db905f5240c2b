"""Photos in request bodies: read within limits, and refused so that the client hears why."""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError, load_image

logger = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000
"""Uploaded photos with more pixels are refused before they are decoded."""

MAX_PHOTOS = 32
"""Photos that one request may add."""

PATIENCE = 60.0
"""Seconds that a client may take to send its body."""

DRAINED = 2**30
"""Bytes of a refused body that are read and dropped, so that the client can finish and read the answer."""

FORM_ROOM = 2**16
"""Bytes that the frame of a form may take beside the photos in it."""


@dataclass(frozen=True)
class Upload:
    """A photo as it was sent.

    Attributes:
        name: that the client gives it, without folders; may be empty.
        content: bytes of its file.
    """

    name: str
    content: bytes


async def read_photos(request: Request, limit: int, most: int = 1) -> list[Upload]:
    """Return the photos of a body: a form (`multipart/form-data`), or the bytes of one file.

    Args:
        request: whose body nobody has read.
        limit: bytes of a photo.
        most: photos.

    Raises:
        HTTPException: 413 when a photo is larger, 422 when there is none or something else, 408 when the
            client takes too long.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    body = await read_limited(request, limit * most + FORM_ROOM if form else limit, limit)
    photos = await _of_form(request, body) if form else [Upload("", body)]
    if len(photos) > most:
        raise HTTPException(422, f"{len(photos)} photos in one request, more than {most}")
    if not photos or not all(photo.content for photo in photos):
        raise HTTPException(422, "there is no photo in the request: send its bytes as the body, or a form")
    if max(len(photo.content) for photo in photos) > limit:
        raise too_large(limit)
    return photos


async def read_limited(request: Request, most: int, limit: int) -> bytes:
    """Return the body of a request.

    Raises:
        HTTPException: 413 when it is longer than `most` bytes, of which the message says that a photo may
            have `limit`; 408 when the client takes longer than `PATIENCE`.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > most:
        await drain(request)
        raise too_large(limit)
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    body.clear()
                    break
            else:
                return bytes(body)
    except TimeoutError:
        raise HTTPException(408, f"the photo did not arrive within {PATIENCE:g} s") from None
    await drain(request)
    raise too_large(limit)


async def drain(request: Request) -> None:
    """Read and drop a body that is refused, within limits.

    A client that is still sending when the connection is closed gets a broken pipe in place of the answer.
    One that asks first (`Expect: 100-continue`) is answered before it sends anything.
    """
    if request.headers.get("expect", "").lower() == "100-continue":
        return
    dropped = 0
    try:
        async with asyncio.timeout(PATIENCE):
            while dropped < DRAINED:
                message = await request.receive()
                dropped += len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def too_large(limit: int) -> HTTPException:
    """Return the refusal of a photo of more than `limit` bytes."""
    return HTTPException(413, f"the photo is larger than {limit / 2**20:g} MiB")


async def _of_form(request: Request, body: bytes) -> list[Upload]:
    """Return the files of a form."""

    async def whole() -> AsyncIterator[bytes]:
        yield body

    try:
        form = await MultiPartParser(request.headers, whole(), max_files=MAX_PHOTOS, max_fields=8).parse()  # type: ignore[arg-type]
    except (MultiPartException, KeyError, ValueError) as error:
        raise HTTPException(422, f"the form cannot be read: {in_one_line(str(error))}") from None
    async with asyncio.timeout(PATIENCE):
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        found = [Upload(Path(file.filename or "").name[:200], await file.read()) for file in files]
        await form.close()
    return found


@contextmanager
def as_files(photos: list[Upload]) -> Iterator[list[Path]]:
    """Give photos as files, which last as long as the block.

    Raises:
        HTTPException: 422, one is not a photo that can be read.
    """
    with tempfile.TemporaryDirectory(prefix="upload-") as folder:
        files = []
        for number, photo in enumerate(photos):
            file = Path(folder, str(number), plain_name(photo.name))  # collections name photos by their files
            file.parent.mkdir()
            file.write_bytes(photo.content)
            with plain_refusals(folder, photo.name if len(photos) > 1 else ""):
                load_image(file, at_least=1, max_pixels=MAX_PIXELS)
            files.append(file)
        with plain_refusals(folder):
            yield files


def plain_name(name: str) -> str:
    """Return a name that leads nowhere and that every system takes, for one that a client gives."""
    return re.sub(r"[^\w.-]+", "_", Path(name).name).strip("._")[-100:] or "photo"


@contextmanager
def plain_refusals(folder: str, name: str = "") -> Iterator[None]:
    """Turn what is said of a photo into one line for the client, without paths of the server."""
    try:
        yield
    except UnreadableImageError as error:
        reason = in_one_line(str(error).replace(folder, "").strip())
        raise HTTPException(
            422, f"not a photo that can be read: {name}{': ' if name else ''}{reason}"
        ) from None
    except LandmarkRetrievalError as error:
        logger.warning("a request was refused: %s", in_one_line(str(error)))
        raise HTTPException(422, "the photo cannot be used; the log of the service says why") from None


def in_one_line(text: str) -> str:
    """Return a text without line breaks."""
    return " ".join(text.split())
