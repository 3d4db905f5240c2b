"""Figures that others published for a data set, to be shown beside measured ones."""

from __future__ import annotations

from landmark_retrieval.configuration import Configuration


class PublishedResult(Configuration):
    """One published result.

    Attributes:
        name: whose it is.
        public: mAP@100 on the public queries, None where it was not published.
        private: mAP@100 on the private queries, likewise.
    """

    name: str
    public: float | None = None
    private: float | None = None


class PublishedConfig(Configuration):
    """Published results of a data set.

    Attributes:
        source: where they were published, in words.
        results: none by default: most data sets have none that could be compared.
    """

    source: str = ""
    results: tuple[PublishedResult, ...] = ()

    def rows(self) -> list[tuple[str, float | None, float | None]]:
        """Return name, public and private mAP@100 of each result."""
        return [(result.name, result.public, result.private) for result in self.results]
