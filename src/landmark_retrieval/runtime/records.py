"""What is kept beside every artifact: a checksum of what was stored, and what it was made of.

The record of `folder/name` is the hidden file `folder/.name.record.json`. A copy of an artifact does not
carry its record with it, so an artifact that was put in the place of another is known by its checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from landmark_retrieval.configuration import digest
from landmark_retrieval.runtime.files import whole_file
from landmark_retrieval.runtime.sharding import MANIFEST

FORMAT = 1
"""Version of the layout of records; one of another layout is as good as none."""

READ_AGAIN_BELOW = 8 << 20
"""Files below this size are read once a run to be checked; larger ones where size or times have changed."""

ABSENT = "absent"
"""Stands for the digest of an optional artifact that is not there."""


@dataclass(frozen=True)
class Record:
    """What an artifact is and what it was made of.

    Attributes:
        artifact: its name in the catalog.
        pipeline: that made it; "" for what was saved by hand.
        node: that made it, likewise.
        digest: of the content of all files.
        files: digest, size, and times of change (nanoseconds) of each file, by its name in the artifact.
        inputs: digests of the artifacts that the node read, by name.
        tables: digests of the image tables whose rows it is over, by name.
        parameters: that the node read, by the name of their group.
        seconds: that the node took, with what it found done already.
    """

    artifact: str
    pipeline: str
    node: str
    digest: str
    files: dict[str, list[Any]]
    inputs: dict[str, str] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def record_file(place: Path) -> Path:
    """Return the file of the record of an artifact."""
    return place.with_name(f".{place.name}.record.json")


def read_record(place: Path) -> Record | None:
    """Return the record of an artifact, None where there is none that can be read."""
    try:
        stored = json.loads(record_file(place).read_text(encoding="utf-8"))
        return Record(**stored["record"]) if stored["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_record(place: Path, record: Record) -> None:
    """Store the record of an artifact."""
    text = json.dumps({"format": FORMAT, "record": asdict(record)}, indent=1, default=str)
    with whole_file(record_file(place)) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


class Checksums:
    """Digests of files; each is read once as long as its size and times stay."""

    def __init__(self) -> None:
        self._known: dict[Path, list[Any]] = {}

    def files(self, place: Path, before: Mapping[str, list[Any]] | None = None) -> dict[str, list[Any]]:
        """Return digest and state of each file of an artifact.

        Args:
            place: where it lies.
            before: what a record says; of a large file in the same state, the digest is taken over.

        Raises:
            OSError: a file cannot be read, or is not there.
        """
        return {name: self._file(file, (before or {}).get(name)) for name, file in _files(place).items()}

    def _file(self, file: Path, before: list[Any] | None) -> list[Any]:
        status = file.stat()
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
        known = self._known.get(file)
        if known is None and before is not None and status.st_size >= READ_AGAIN_BELOW:
            known = before
        if known is None or known[1:] != state:
            known = [_content(file), *state]
        self._known[file] = known
        return known


def damage(place: Path, record: Record, sums: Checksums) -> str:
    """Return in words what is wrong with the bytes of an artifact, "" where they are as stored."""
    try:
        files = sums.files(place, record.files)
    except (OSError, ValueError, KeyError, TypeError):
        files = {}
    wrong = [
        str(place / file if place.is_dir() else place)
        for file, facts in record.files.items()
        if file not in files or files[file][0] != facts[0]
    ]
    wrong += [str(place / file) for file in files if file not in record.files]
    return f"{', '.join(wrong)}: not as stored" if wrong else ""


def content_of(files: Mapping[str, list[Any]]) -> str:
    """Return the digest of an artifact from those of its files."""
    return digest({name: facts[0] for name, facts in files.items()})


def _files(place: Path) -> dict[str, Path]:
    if not place.is_dir():
        return {place.name: place}
    if (place / MANIFEST).is_file():
        manifest = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        return {str(name): place / name for name in [MANIFEST, *manifest["shards"]]}
    return {file.name: file for file in sorted(place.iterdir())}


def _content(file: Path) -> str:
    """Return the digest of a file; of a manifest without the seconds, which are no part of the content."""
    if file.name == MANIFEST:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        return digest({name: value for name, value in manifest.items() if name != "seconds"})
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]
