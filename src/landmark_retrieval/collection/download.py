"""Download of published files: resumed after an interruption, checked, unpacked, and never done twice."""

from __future__ import annotations

import hashlib
import http.client
import logging
import shutil
import tarfile
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

from landmark_retrieval.collection.sources import Source
from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

FOLDER = ".downloads"
"""Folder below the data root for what is not finished, and for marks of what is."""

ATTEMPTS = 5
"""Times an interrupted transfer is taken up again before giving up."""

CHUNK = 1 << 20
TIMEOUT = 60.0

_UNPACKING = threading.Lock()
"""Archives share folders, and tarfile does not expect them to appear meanwhile: one at a time."""

Progress = Callable[[int], None]


def is_done(root: Path, source: Source) -> bool:
    """Return whether a file was downloaded, checked and unpacked before, or lies there as a plain file."""
    return _mark(root, source).is_file() or (source.unpack == "none" and (root / source.target).is_file())


def fetch(
    root: Path, source: Source, progress: Progress | None = None, pause: float = 2.0, keep: bool = False
) -> bool:
    """Get one file, unless it is there.

    Args:
        root: the data root.
        source: the file.
        progress: called with the bytes of every piece that arrives.
        pause: seconds to wait before an interrupted transfer is taken up again; grows with every attempt.
        keep: keep archives after unpacking.

    Returns:
        Whether anything was downloaded.

    Raises:
        LandmarkRetrievalError: the address does not answer, the transfer keeps breaking off, the MD5 sum
            differs twice, or the archive is damaged.
    """
    if is_done(root, source):
        return False
    partial = root / FOLDER / f"{source.name}.part"
    partial.parent.mkdir(parents=True, exist_ok=True)
    expected = _published_md5(source)
    for last in (False, True):
        _transfer(source, partial, progress, pause)
        actual = _md5(partial)
        if expected is None or actual == expected:
            break
        partial.unlink()
        if last:
            raise LandmarkRetrievalError(
                f"{source.url}: MD5 sum {actual} differs from the published {expected} twice in a row; try "
                "again later or use a --mirror"
            )
        logger.warning("%s: MD5 sum differs from the published one; downloaded once more", source.url)
    if source.unpack == "none":
        target = root / source.target
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.replace(target)
    else:
        _unpack(source, partial, root / source.target)
        if keep:
            partial.rename(partial.with_suffix(""))
        else:
            partial.unlink()
    _mark(root, source).write_text(f"{actual}\n", encoding="utf-8")
    return True


def _mark(root: Path, source: Source) -> Path:
    return root / FOLDER / f"{source.name}.done"


def _published_md5(source: Source) -> str | None:
    if source.md5_url is None:
        return None
    try:
        with urllib.request.urlopen(source.md5_url, timeout=TIMEOUT) as answer:
            words = answer.read(4096).decode("utf-8", "replace").split()
    except (OSError, http.client.HTTPException) as error:
        raise LandmarkRetrievalError(f"{source.md5_url}: cannot be read ({_reason(error)})") from None
    if not words or len(words[0]) != 32:
        raise LandmarkRetrievalError(f"{source.md5_url}: holds no MD5 sum; try again later or use a --mirror")
    return str(words[0]).lower()


def _transfer(source: Source, partial: Path, progress: Progress | None, pause: float) -> None:
    """Append what is missing of a file, taking up interrupted transfers."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if _append(source, partial, progress):
                return
            reason = "the transfer broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise LandmarkRetrievalError(
                    f"{source.url}: the server answers {error.code} {error.reason}; check the address or use "
                    "a --mirror"
                ) from None
            reason = _reason(error)
        except (OSError, http.client.HTTPException) as error:
            reason = _reason(error)
        if attempt < ATTEMPTS:
            logger.info("%s: %s; taken up again (%d of %d)", source.url, reason, attempt + 1, ATTEMPTS)
            time.sleep(pause * attempt)
    raise LandmarkRetrievalError(
        f"{source.url}: {reason}, {ATTEMPTS} times; what has arrived is kept, run the same command again"
    )


def _append(source: Source, partial: Path, progress: Progress | None) -> bool:
    """Ask for the missing bytes once; return whether the file is complete."""
    start = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(source.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        # Nothing lies beyond what is here: it is complete, unless the file became another one.
        total = str(error.headers.get("Content-Range", "")).rpartition("/")[2]
        if total == str(start):
            return True
        partial.unlink()
        return False
    with answer:
        if answer.status != 206:
            start = 0
        length = answer.headers.get("Content-Length")
        with partial.open("ab" if start else "wb") as file:
            while chunk := answer.read(CHUNK):
                file.write(chunk)
                if progress is not None:
                    progress(len(chunk))
    return length is None or partial.stat().st_size == start + int(length)


def _unpack(source: Source, archive: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with _UNPACKING, tarfile.open(archive) as tar:
            if source.unpack == "tree":
                tar.extractall(folder, filter="data")
                return
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    continue
                with content, (folder / Path(member.name).name).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise LandmarkRetrievalError(f"{folder}: cannot be written ({_reason(error)})") from None
        archive.unlink()
        raise LandmarkRetrievalError(
            f"{source.url}: the archive is damaged ({_reason(error)}); run the same command again"
        ) from None


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
