"""What was added to and deleted from a finished index, on disk.

    changes/<token>.npz          photos that were added together, and pairs that were compared; never changed
            <token>.lists.npz    whom added photos resemble, and who is gone
            manifest-<n>.json    names the files of version n
            pictures/            the added photos themselves
            claims/              who is writing

Files are written under a temporary name, synced and renamed; then a manifest that names them is linked into
place under the next number, which fails where another writer was faster. So whoever reads sees the old or the
new version whole, and a process that is killed leaves the old one.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.local_features import LocalFeatures
from landmark_retrieval.retrieval.growth import Added
from landmark_retrieval.runtime.claims import Claims, new_token
from landmark_retrieval.runtime.shard_arrays import ShardArrays
from landmark_retrieval.runtime.store_files import Folder
from landmark_retrieval.verification.candidates import AGGREGATED, BLEND

FORMAT = 1
PICTURES = "pictures"
WRITER = "writer"
TEMPORARY = ".tmp"
PARTS = ("keypoints", "descriptors", "scores", "scales")


@dataclass(frozen=True, eq=False)
class AddedPhoto:
    """One photo that was added.

    Attributes:
        id: its id.
        key: what results of it are kept by.
        content: digest of its bytes.
        landmark: name of its landmark, empty for none.
        picture: file with its bytes.
        features: its local features.
    """

    id: str
    key: str
    content: str
    landmark: str
    picture: Path
    features: LocalFeatures


@dataclass(frozen=True, eq=False)
class State:
    """One version of the changes.

    Attributes:
        version: its number; 0 before the first change.
        photos: added, in the order of coming, those that are gone again among them.
        added: their descriptors and lists; None before the first change.
        inliers: of pairs that were compared, by `verification.pairs.pair_keys`.
        segments: files that hold them.
    """

    version: int
    photos: Sequence[AddedPhoto] = ()
    added: Added | None = None
    inliers: dict[str, int] = field(default_factory=dict)
    segments: Sequence[str] = ()

    def there(self) -> dict[str, AddedPhoto]:
        """Return the added photos that are still there, by id."""
        if self.added is None:
            return {}
        gone = self.added.gone[len(self.added.gone) - len(self.photos) :].tolist()
        return {photo.id: photo for photo, lost in zip(self.photos, gone, strict=True) if not lost}


class Changes:
    """The versions of an index.

    Args:
        folder: where they lie; made with the first change.
        base: digest of the run that they are over.
    """

    def __init__(self, folder: Path, base: str) -> None:
        self.folder, self.base = folder, base

    def newest(self) -> int:
        """Return the number of the newest version, 0 for none."""
        return max(map(_number, _names(self.folder)), default=0)

    def read(self) -> State:
        """Return the newest version.

        Raises:
            LandmarkRetrievalError: it is over another run, or damaged.
        """
        for _ in range(20):
            version = self.newest()
            if version == 0:
                return State(0)
            with suppress(FileNotFoundError):  # a writer has just replaced it
                return self._read(version)
        raise LandmarkRetrievalError(f"{self.folder}: version {version} lacks files; delete the folder")

    @contextmanager
    def writing(self, wait: float) -> Iterator[None]:
        """Keep other writers out for as long as the block lasts.

        Args:
            wait: seconds to wait for another writer.

        Raises:
            LandmarkRetrievalError: another process is writing; names it.
        """
        claims = Claims(Folder(str(self.folder / "claims")), new_token())
        end = time.monotonic() + wait
        with claims.held():
            while not claims.take({WRITER}):
                if time.monotonic() > end:
                    others = [claim.owner for claim in claims.others().values()]
                    raise LandmarkRetrievalError(
                        f"{self.folder}: {', '.join(others) or 'another process'} is changing the index; try "
                        "again when it has finished"
                    )
                time.sleep(0.05)
            yield

    def store_picture(self, content: str, data: bytes) -> Path:
        """Keep the bytes of an added photo; return its file."""
        path = self.folder / PICTURES / content
        if not path.exists():
            _write(path, data)
        return path

    def publish(
        self,
        before: State,
        photos: Sequence[AddedPhoto],
        descriptors: tuple[NDArray[Any], NDArray[Any]],
        added: Added,
        inliers: dict[str, int],
    ) -> State:
        """Make a new version the newest; call it inside `writing`.

        Args:
            before: the version that it comes from.
            photos: that are new.
            descriptors: of the new photos, and their aggregated local features.
            added: all added photos and who is gone.
            inliers: of pairs that are new.

        Raises:
            LandmarkRetrievalError: another process has published since; nothing has changed.
        """
        token, segments = new_token(), list(before.segments)
        if photos or inliers or not segments:
            segments.append(f"{token}.npz")
            _save(self.folder / segments[-1], _arrays(photos, *descriptors, inliers))
        lists = {
            f"{name}_{part}": getattr(one, part)
            for name, one in added.lists.items()
            for part in ("neighbors", "weights")
        }
        _save(self.folder / f"{token}.lists.npz", {**lists, "gone": added.gone})
        version = before.version + 1
        manifest = {"format": FORMAT, "base": self.base, "segments": segments, "lists": f"{token}.lists.npz"}
        target = self.folder / f"manifest-{version:08d}.json"
        temporary = target.with_name(f"{target.name}.{token}{TEMPORARY}")
        _write(temporary, json.dumps(manifest, indent=1).encode(), rename=False)
        try:
            os.link(temporary, target)
        except FileExistsError:
            raise LandmarkRetrievalError(
                f"{self.folder}: another process has changed the index meanwhile; try again"
            ) from None
        finally:
            temporary.unlink()
        _sync_folder(self.folder)
        state = State(version, [*before.photos, *photos], added, {**before.inliers, **inliers}, segments)
        self._clean(state)
        return state

    def _read(self, version: int) -> State:
        file = self.folder / f"manifest-{version:08d}.json"
        manifest = json.loads(file.read_text(encoding="utf-8"))
        if manifest["format"] != FORMAT or manifest["base"] != self.base:
            raise LandmarkRetrievalError(
                f"{file}: photos were added to or deleted from another run than there is now; move "
                f"{self.folder} away to open the run as it is, its pictures can be added again"
            )
        photos, plain, aggregated, inliers = [], [], [], dict[str, int]()
        for name in manifest["segments"]:
            with (self.folder / name).open("rb") as stream:
                arrays = ShardArrays(stream)
                photos += self._photos(arrays)
                plain.append(arrays.rows("plain"))
                aggregated.append(arrays.rows("aggregated"))
                keys = arrays.rows("pair_keys").tolist()
                inliers |= dict(zip(map(str, keys), arrays.rows("pair_inliers").tolist(), strict=True))
        with np.load(self.folder / manifest["lists"], allow_pickle=False) as kept:
            lists = {
                name: NeighborLists(kept[f"{name}_neighbors"], kept[f"{name}_weights"])
                for name in (BLEND, AGGREGATED)
            }
            gone = kept["gone"]
        added = None
        if plain:
            added = Added(np.concatenate(plain), np.concatenate(aggregated), lists, gone)
        return State(version, photos, added, inliers, manifest["segments"])

    def _photos(self, arrays: ShardArrays) -> list[AddedPhoto]:
        ids, keys, contents, landmarks, pictures = (
            map(str, arrays.rows(name).tolist())
            for name in ("ids", "keys", "contents", "landmarks", "pictures")
        )
        offsets, sizes = arrays.rows("offsets").tolist(), arrays.rows("sizes").tolist()
        mapped = {name: arrays.mapped(name) for name in PARTS}
        values = {name: arrays.rows(name) if part is None else part for name, part in mapped.items()}
        features = [
            LocalFeatures(**{name: part[start:stop] for name, part in values.items()}, size=(width, height))
            for start, stop, (width, height) in zip(offsets[:-1], offsets[1:], sizes, strict=True)
        ]
        files = [self.folder / PICTURES / name for name in pictures]
        return list(map(AddedPhoto, ids, keys, contents, landmarks, files, features))

    def _clean(self, state: State) -> None:
        """Remove what only older versions need, what killed writers left, and pictures that were deleted."""
        kept = {*state.segments}
        for name in _names(self.folder):
            number = _number(name)
            if number and number < state.version - 1:
                (self.folder / name).unlink(missing_ok=True)
            elif number:
                with suppress(OSError, ValueError, KeyError):
                    manifest = json.loads((self.folder / name).read_text(encoding="utf-8"))
                    kept |= {*manifest["segments"], manifest["lists"]}
        for name in _names(self.folder):
            if (name.endswith(".npz") and name not in kept) or name.endswith(TEMPORARY):
                (self.folder / name).unlink(missing_ok=True)
        pictures = {photo.picture.name for photo in state.there().values()}
        for name in _names(self.folder / PICTURES):
            if name not in pictures:
                (self.folder / PICTURES / name).unlink(missing_ok=True)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def _arrays(
    photos: Sequence[AddedPhoto], plain: NDArray[Any], aggregated: NDArray[Any], inliers: dict[str, int]
) -> dict[str, NDArray[Any]]:
    features = [photo.features for photo in photos]
    texts = {
        "ids": [photo.id for photo in photos],
        "keys": [photo.key for photo in photos],
        "contents": [photo.content for photo in photos],
        "landmarks": [photo.landmark for photo in photos],
        "pictures": [photo.picture.name for photo in photos],
        "pair_keys": list(inliers),
    }
    empty = LocalFeatures.empty(0)
    return {
        **{name: np.array(values, dtype=np.str_) for name, values in texts.items()},
        "plain": plain,
        "aggregated": aggregated,
        "offsets": np.cumsum([0, *map(len, features)]).astype(np.int64),
        "sizes": np.array([one.size for one in features], np.int64).reshape(-1, 2),
        **{name: np.concatenate([getattr(one, name) for one in features or [empty]]) for name in PARTS},
        "pair_inliers": np.array(list(inliers.values()), np.int32),
    }


def _number(name: str) -> int:
    """Return the number of a manifest by its name, 0 for another file."""
    middle = name.removeprefix("manifest-").removesuffix(".json")
    return int(middle) if middle.isdigit() and len(name) == len(middle) + len("manifest-.json") else 0


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}{TEMPORARY}")
    with temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _write(path: Path, data: bytes, rename: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}") if rename else path
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    if rename:
        temporary.replace(path)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
