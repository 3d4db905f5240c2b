"""The finished index as a library: `Index.open("data", "demo").search("photo.jpg")`, without Kedro."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.collection.groups import Groups, GroupsConfig, group_photos
from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.label_evidence import LabelEvidence, LabelPosterior
from landmark_retrieval.images import Source, UnreadableImageError, load_image
from landmark_retrieval.retrieval.answers import Evidence, Landmark, Match, Region, SearchResult
from landmark_retrieval.retrieval.artifacts import RunFiles
from landmark_retrieval.retrieval.index import read_index
from landmark_retrieval.retrieval.photo import PhotoSearch
from landmark_retrieval.retrieval.presence import THRESHOLD, presence
from landmark_retrieval.retrieval.search import Found, Result

Photo = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A photo: its file, the bytes of a file, a picture of Pillow, or pixels uint8 `[h, w, 3]` or `[h, w]`."""

LIKELY = 0.5
"""Probability from which labels are named: more likely than not."""

_NOTHING: Evidence = "none"


class Index:
    """A finished index: finds photos of the same place, and says when there are none.

    Made by `open`. Searches take the steps of a run's queries (`retrieval/stages.py`) and give its ranking.

    Attributes:
        name: of the data set.
        threshold: probability from which an answer is `found`.
    """

    def __init__(self, files: RunFiles) -> None:
        self.name, self.threshold = files.name, THRESHOLD
        self._files = files
        self._searching = PhotoSearch(read_index(files.read, DESCRIPTORS))

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
        rows = self._searching.index.rows
        return int(rows.index.stop - rows.index.start)

    @cached_property
    def ids(self) -> list[str]:
        """Ids of all photos of the index."""
        return self._searching.index.ids[self._searching.index.rows.index]

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
        with as_file(photo) as source:
            found = self._searching.find(source, results, variant)
        return self._answer(found, variant)

    def picture(self, image_id: str) -> Path:
        """Return the file of a photo.

        Raises:
            LandmarkRetrievalError: the index has no such photo.
        """
        return Path(self._searching.index.images["path"].iloc[self._row(image_id)])

    def groups(self) -> list[list[str]]:
        """Return the groups of photos of one place, the largest first; a photo without partner is in none."""
        ids = self._searching.index.ids
        return [[ids[row] for row in rows.tolist()] for rows in self._groups.members().values()]

    @cached_property
    def _groups(self) -> Groups:
        pairs = self._files.read("pair_probabilities")
        index = self._searching.index.rows.index
        inside = pairs[(pairs["row_a"] >= index.start) & (pairs["row_b"] < index.stop)]
        return group_photos(
            inside[["row_a", "row_b"]].to_numpy(np.int64),
            inside["probability"].to_numpy(np.float32),
            index.stop,
            GroupsConfig.model_validate(self._files.read("params:groups")),
        )

    @cached_property
    def _rows(self) -> dict[str, int]:
        index = self._searching.index
        return {
            image: row
            for row, image in enumerate(index.ids)
            if row in range(*index.rows.index.indices(len(index.ids)))
        }

    def _row(self, image_id: str) -> int:
        if image_id not in self._rows:
            raise LandmarkRetrievalError(f"the index '{self.name}' has no photo '{image_id}'")
        return self._rows[image_id]

    def _answer(self, found: Found, variant: str | None) -> SearchResult:
        """Return what was found, with what each result and the whole is worth."""
        searching = self._searching
        here = presence(searching.fit, found.most_inliers, found.tried)
        evidence = searching.evidence(variant)
        matches = [self._match(result, here, found.posterior, evidence) for result in found.results]
        best = max((match.probability for match in matches), default=0.0)
        return SearchResult(
            results=matches,
            found=best >= self.threshold,
            probability=best,
            landmark=self._landmark(matches, found.posterior),
            turn=found.results[0].turn if found.results else 0,
            seconds=found.seconds,
            variant=searching.variant(variant).name,
        )

    def _match(
        self, result: Result, here: float, labels: LabelPosterior | None, evidence: LabelEvidence | None
    ) -> Match:
        """Return a result; `here` bounds what geometry proves, as it is the best of many pairs."""
        index = self._searching.index
        last = result.path[-1] if result.path else None
        why, probability, through = _NOTHING, 0.0, list[str]()
        if result.inliers is not None:
            probability = min(float(self._searching.fit.probabilities(result.inliers)), here)
            why = "verified" if result.verified else _NOTHING
        if not result.verified and last is not None and last.verified:
            why, probability = "path", min(last.weight, here)
            through = [index.ids[step.row] for step in result.path[:-1]]
        if labels is not None and evidence is not None:
            agree = same_label(labels, evidence.index, result.row - index.rows.index.start)
            if agree > probability:
                why, probability, through = ("label" if agree >= LIKELY else why), agree, []
                if last is not None and last.label_bridge:
                    through = [index.ids[row] for row in last.train_rows]
        return Match(
            id=result.image_id,
            picture=Path(index.images["path"].iloc[result.row]),
            landmark=result.landmark,
            probability=round(probability, 6),
            evidence=why,
            inliers=result.inliers,
            region=_region(result.region) if result.verified else None,
            through=through,
            similarity=result.similarity,
        )

    def _landmark(self, matches: Sequence[Match], labels: LabelPosterior | None) -> Landmark | None:
        """Return the landmark that labels name: those of train images, or of the surest result."""
        named = [Landmark(match.landmark, match.probability) for match in matches if match.landmark]
        if labels is not None and labels.labels.shape[1] and labels.labels[0, 0] >= 0:
            name = self._searching.name_of(int(labels.labels[0, 0]))
            named.append(Landmark(name, round(float(labels.probabilities[0, 0]), 6)))
        best = max(named, key=lambda one: one.probability, default=None)
        return best if best is not None and best.probability >= LIKELY else None


def same_label(photo: LabelPosterior, index: LabelPosterior, row: int) -> float:
    """Return the probability that labels of a photo and of an index row agree."""
    return float(
        sum(
            probability * float(((index.labels[row] == label) * index.probabilities[row]).sum())
            for label, probability in zip(
                photo.labels[0].tolist(), photo.probabilities[0].tolist(), strict=True
            )
            if label >= 0
        )
    )


@contextmanager
def as_file(photo: Photo) -> Iterator[Source]:
    """Give a photo as a file, which lasts as long as the block.

    Raises:
        UnreadableImageError: it is no photo.
    """
    if isinstance(photo, str | os.PathLike):
        load_image(os.fspath(photo), at_least=1)
        yield os.fspath(photo)
        return
    with tempfile.TemporaryDirectory(prefix="photo-") as folder:
        file = Path(folder, "photo")
        file.write_bytes(photo if isinstance(photo, bytes) else _encoded(photo))
        load_image(file, at_least=1)
        yield str(file)


def _encoded(photo: Image.Image | NDArray[Any]) -> bytes:
    """Return a picture or pixels as a lossless file."""
    if not isinstance(photo, Image.Image):
        pixels = np.asarray(photo)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)):
            raise UnreadableImageError(
                f"an array of {pixels.dtype} {list(pixels.shape)} where uint8 [height, width, 3] is wanted"
            )
        photo = Image.fromarray(pixels)
    stream = io.BytesIO()
    photo.save(stream, "PNG", compress_level=1, exif=photo.getexif())
    return stream.getvalue()


def _region(boxes: NDArray[np.float32] | None) -> Region | None:
    if boxes is None:
        return None
    photo, match = (tuple(float(side) for side in box) for box in boxes)
    return Region(photo, match)  # type: ignore[arg-type]
