"""Kedro datasets of the public benchmarks, read as they are published."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from landmark_retrieval.collection import RawCollection, only_table
from landmark_retrieval.collection.gldv2 import read_gldv2
from landmark_retrieval.collection.revisited import read_revisited
from landmark_retrieval.io.errors import passed_on
from landmark_retrieval.io.photos import PhotosDataset
from landmark_retrieval.io.previews import TablePreview


class Gldv2Dataset(PhotosDataset):
    """Google Landmarks v2; read-only. Loads the raw table of `collection.gldv2.read_gldv2`.

    Args:
        filepath: folder of the data set.
        train: train images: `all`, `clean` or `none`.
        queries: test images: `all`, or the `scored` ones only.
        metadata: for plugins such as kedro-viz.
    """

    RUNTIME_OPTIONS: ClassVar[tuple[str, ...]] = ("data_root", "protocol")

    def __init__(
        self,
        *,
        filepath: str,
        train: Literal["all", "clean", "none"] = "all",
        queries: Literal["all", "scored"] = "all",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._train = train
        self._queries = queries

    def load(self) -> RawCollection:
        """Return the raw image table.

        Raises:
            ArtifactError: see `landmark_retrieval.collection.gldv2.read_gldv2`.
        """
        with passed_on():
            return only_table(read_gldv2(self._filepath, self._train, self._queries))

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows for kedro-viz, without reading the train images.

        Args:
            nrows: number of rows.
        """
        with passed_on():
            rows = read_gldv2(self._filepath, "none", self._queries).head(nrows).astype(object)
        return TablePreview(rows.where(rows.notna(), None).to_dict(orient="split"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "train": self._train, "queries": self._queries}


class RevisitedDataset(PhotosDataset):
    """Revisited Oxford or Paris; read-only. Loads the raw table of `collection.revisited.read_revisited`.

    Args:
        filepath: folder of the data set, or of several.
        name: `roxford5k` or `rparis6k`.
        distractors: whether the million images of revisitop1m join the index.
        descriptors: what stands in for the photos, which then need not exist; None for the photos.
        metadata: for plugins such as kedro-viz.
    """

    RUNTIME_OPTIONS: ClassVar[tuple[str, ...]] = ("data_root", "protocol", "distractors")

    def __init__(
        self,
        *,
        filepath: str,
        name: Literal["roxford5k", "rparis6k"],
        distractors: bool = False,
        descriptors: Any = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._name = name
        self._distractors = distractors
        self._photos_needed = not descriptors

    @property
    def files_needed(self) -> bool:
        """Whether the photos themselves must be there, besides their table."""
        return self._photos_needed

    def load(self) -> RawCollection:
        """Return the raw image table.

        Raises:
            ArtifactError: see `landmark_retrieval.collection.revisited.read_revisited`.
        """
        with passed_on():
            return only_table(
                read_revisited(self._filepath, self._name, self._distractors, self._photos_needed)
            )

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "name": self._name, "distractors": self._distractors}
