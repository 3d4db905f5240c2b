"""A collection in memory that finds photos by their bytes, for tests of what is around it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import load_image
from landmark_retrieval.retrieval.answers import Landmark, Match, Region, SearchResult


class FakeCollection:
    """Finds a photo where its very bytes are in it.

    Args:
        folder: where files are kept.
        ids: of the photos that it has at first.
    """

    name = "fake"

    def __init__(self, folder: Path, ids: Sequence[str] = ("first", "second place", "häuser/ü.jpg")) -> None:
        self.folder, self.files = folder, dict[str, Path]()
        self.held = threading.Event()
        self.held.set()
        for number, image_id in enumerate(ids):
            file = folder / f"{number}.{'tif' if number else 'jpg'}"
            Image.new("RGB", (64, 48), (10 * number, 100, 200)).save(file)
            self.files[image_id] = file

    def __len__(self) -> int:
        return len(self.files)

    @property
    def ids(self) -> list[str]:
        return list(self.files)

    def search(self, photo: Path, results: int = 20) -> SearchResult:
        assert self.held.wait(30)
        load_image(photo)
        content = Path(photo).read_bytes()
        same = [image_id for image_id, file in self.files.items() if file.read_bytes() == content]
        others = [image_id for image_id in self.files if image_id not in same]
        matches = [self._match(image_id, image_id in same) for image_id in (same + others)[:results]]
        named = Landmark("somewhere", 0.99) if same else None
        return SearchResult(matches, bool(same), 0.99 if same else 0.0, named, 0, 0.01, "fake")

    def _match(self, image_id: str, same: bool) -> Match:
        region = Region((0.0, 0.0, 9.0, 9.0), (1.0, 1.0, 8.0, 8.0)) if same else None
        evidence = "verified" if same else "none"
        inliers = 50 if same else None
        place = "somewhere" if same else ""
        through = [] if same else ["first"]
        found = (image_id, self.files[image_id], place, 0.99 if same else 0.0, evidence, inliers)
        return Match(*found, region, through, 0.5)  # type: ignore[arg-type]

    def picture(self, image_id: str) -> Path:
        if image_id not in self.files:
            raise LandmarkRetrievalError(f"{self.folder}: no photo {image_id}")
        return self.files[image_id]

    def groups(self) -> list[list[str]]:
        return [self.ids[:2]] if len(self) > 1 else []

    def add(self, photos: Sequence[Path]) -> list[str]:
        added = []
        for photo in photos:
            content = Path(photo).read_bytes()
            image_id = hashlib.sha256(content).hexdigest()[:12]
            self.files[image_id] = self.folder / image_id
            self.files[image_id].write_bytes(content)
            added.append(image_id)
        return added

    def delete(self, image_ids: Sequence[str]) -> None:
        for image_id in image_ids:
            del self.files[image_id]
