"""The finished index as a library: `Index.open("data", "demo").search("photo.jpg")`, without Kedro."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from landmark_retrieval.collection.groups import GroupsConfig, group_photos
from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError
from landmark_retrieval.retrieval.answers import SearchResult
from landmark_retrieval.retrieval.artifacts import RunFiles
from landmark_retrieval.retrieval.changes import AddedPhoto, Changes, State
from landmark_retrieval.retrieval.given import Photo, as_bytes, as_file, name_of
from landmark_retrieval.retrieval.growth import Frozen, Grown, change, grow, nothing_added
from landmark_retrieval.retrieval.index import read_index
from landmark_retrieval.retrieval.judging import answer
from landmark_retrieval.retrieval.photo import DescribedPhoto
from landmark_retrieval.retrieval.presence import THRESHOLD
from landmark_retrieval.retrieval.snapshot import comparison, frozen_part
from landmark_retrieval.retrieval.stages import traverse_similarities
from landmark_retrieval.retrieval.versions import Plan, Version, changed, unchanged


class Index:
    """A finished index: finds photos of the same place, and says when there are none.

    Made by `open`. Searches take the steps of a run's queries (`retrieval/stages.py`) and give its ranking.

    Attributes:
        name: of the data set.
        threshold: probability from which an answer is `found`.
    """

    def __init__(self, files: RunFiles) -> None:
        self.name, self.threshold = files.name, THRESHOLD
        self._files, self._lock = files, threading.RLock()
        self._run = read_index(files.read, DESCRIPTORS)
        self._changes = Changes(files.place("search_options")[0].parent / "changes", files.digest())
        self._now = self._version(self._changes.read())

    @classmethod
    def open(cls, root: str | os.PathLike[str] = "data", name: str = "demo") -> Index:
        """Open the index that `kedro run` has made.

        Args:
            root: the project's folder `data`.
            name: of the data set; its artifacts lie in folders of this name.

        Raises:
            LandmarkRetrievalError: there is none, or it is incomplete.
        """
        return cls(RunFiles(root, name))

    def __len__(self) -> int:
        return len(self._current().rows)

    def __contains__(self, image_id: object) -> bool:
        return image_id in self._current().rows

    @property
    def ids(self) -> list[str]:
        """Ids of all photos of the index."""
        return list(self._current().rows)

    def search(self, photo: Photo, results: int = 20, variant: str | None = None) -> SearchResult:
        """Find the photos of the index that show what a photo shows.

        Args:
            photo: a file, the bytes of one, a picture of Pillow, or pixels. Pixels are
                compared as a lossless picture.
            results: most results.
            variant: of the ablation, whose ranking is wanted; None for the last one of the run.

        Raises:
            UnreadableImageError: the photo cannot be read.
            LandmarkRetrievalError: there is no such variant.
        """
        if results < 1:
            raise LandmarkRetrievalError(f"results: {results} is less than 1")
        now = self._current()
        if now.state.version and now.searching.variant(variant).rank is traverse_similarities:
            raise LandmarkRetrievalError(
                f"variant '{variant}' walks similarities among the photos of the run, and some were added or "
                "deleted since: run `kedro run` on all photos"
            )
        with as_file(photo) as source:
            found = now.searching.find(source, results, variant)
        return answer(now.searching, found, variant, self.threshold)

    def picture(self, image_id: str) -> Path:
        """Return the file of a photo.

        Raises:
            LandmarkRetrievalError: the index has no such photo.
        """
        now = self._current()
        images, first = now.searching.index.images, self._run.rows.index.start
        return Path(images["path"].iloc[first + self._row(now, image_id)])

    def groups(self) -> list[list[str]]:
        """Return the groups of photos of one place, the largest first; a photo without partner is in none."""
        now = self._current()
        names = {row: image for image, row in now.rows.items()}
        config = GroupsConfig.model_validate(self._files.read("params:groups"))
        groups = group_photos(now.pairs, now.probabilities, len(now.gone), config)
        return [[names[row] for row in rows.tolist()] for rows in groups.members().values()]

    def add(
        self,
        photos: Sequence[Photo],
        ids: Sequence[str] | None = None,
        landmarks: Sequence[str] | None = None,
        wait: float = 60,
    ) -> list[str]:
        """Add photos: all of them, or none where one cannot be read or the process ends.

        They are described as the photos of the run, compared with whom they resemble, and found by the next
        search of any process. What the run has learned stays as it is.

        Args:
            photos: as for `search`; their bytes are kept beside the index.
            ids: of the photos; None names them as their files. A photo whose bytes are there keeps its id.
            landmarks: names of what they show, empty where not known; None for none.
            wait: seconds to wait for another writer.

        Returns:
            Ids, in the order of the photos.

        Raises:
            LandmarkRetrievalError: an id is taken, or another process is writing.
            UnreadableImageError: a photo cannot be read; says which.
        """
        contents = []
        for number, photo in enumerate(photos):
            try:
                contents.append(as_bytes(photo))
            except UnreadableImageError as error:
                raise UnreadableImageError(f"photo {number + 1} ({name_of(photo)}): {error}") from None
        wanted = list(ids) if ids is not None else [name_of(photo) for photo in photos]
        named = list(landmarks) if landmarks is not None else [""] * len(contents)
        if not len(wanted) == len(named) == len(contents):
            raise LandmarkRetrievalError(f"{len(contents)} photos, {len(wanted)} ids, {len(named)} landmarks")
        with self._lock, self._changes.writing(wait):
            now = self._current()
            plan = Plan.of(self._run, now.state, now.rows, contents, wanted, given=ids is not None)
            new = []
            for place in plan.new:
                picture = self._changes.store_picture(plan.contents[place], contents[place])
                described = now.searching.describe_photo(str(picture))
                new.append(
                    (
                        AddedPhoto(
                            plan.ids[place],
                            described.key,
                            plan.contents[place],
                            named[place],
                            picture,
                            described.features,
                        ),
                        described,
                    )
                )
            if new or plan.back:
                self._publish(now, new, [], plan.back)
        return plan.ids

    def delete(self, ids: Sequence[str], wait: float = 60) -> None:
        """Take photos out of the index, all or none; the next search of any process finds them no more.

        Args:
            ids: of the photos. Files of the run stay where they are, those of added photos are removed.
            wait: seconds to wait for another writer.

        Raises:
            LandmarkRetrievalError: there is no such photo, or another process is writing.
        """
        with self._lock, self._changes.writing(wait):
            now = self._current()
            rows = sorted({self._row(now, image_id) for image_id in ids})
            if rows:
                self._publish(now, [], rows, [])

    def _publish(
        self,
        now: Version,
        new: Sequence[tuple[AddedPhoto, DescribedPhoto]],
        delete: Sequence[int],
        back: Sequence[int],
    ) -> None:
        """Make the next version."""
        frozen, state = self._frozen, now.state
        plain, aggregated = (
            np.concatenate([base[:0], *parts]).astype(base.dtype)
            for base, parts in (
                (frozen.plain, [described.descriptor for _, described in new]),
                (frozen.aggregated, [described.aggregated for _, described in new]),
            )
        )
        added = change(
            frozen,
            state.added or nothing_added(frozen),
            plain,
            aggregated,
            np.array(delete, np.int64),
            np.array(back, np.int64),
        )
        photos = [photo for photo, _ in new]
        comparing = comparison(self._run, [*state.photos, *photos], state.inliers)
        grown = grow(frozen, added, comparing.inliers)
        after = self._changes.publish(state, photos, (plain, aggregated), added, comparing.new)
        self._now = self._version(after, grown)

    @cached_property
    def _frozen(self) -> Frozen:
        return frozen_part(self._run, self._files.read("verified_pairs"))

    def _current(self) -> Version:
        """Return the newest version, whoever made it."""
        with self._lock:
            if self._changes.newest() != self._now.state.version:
                self._now = self._version(self._changes.read())
            return self._now

    def _version(self, state: State, grown: Grown | None = None) -> Version:
        if state.added is None:
            return unchanged(self._run, self._files.read("pair_probabilities"))
        if grown is None:
            comparing = comparison(self._run, state.photos, state.inliers)
            grown = grow(self._frozen, state.added, comparing.inliers)
        return changed(self._run, state, grown)

    def _row(self, now: Version, image_id: str) -> int:
        if image_id not in now.rows:
            raise LandmarkRetrievalError(f"the index '{self.name}' has no photo '{image_id}'")
        return now.rows[image_id]
