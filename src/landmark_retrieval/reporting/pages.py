"""What the report shows of each query, gathered from rankings and traversals."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import SplitRows, landmark_names, landmark_of, relevant_index_rows
from landmark_retrieval.evaluation.gld import average_precision
from landmark_retrieval.graph import LabelBridge, Traversal, explain_edge, trusted_path
from landmark_retrieval.graph.kernel import LABEL_EDGE, VERIFIED_EDGE
from landmark_retrieval.images import Source, image_sources
from landmark_retrieval.reporting.report import (
    Chain,
    QueryPage,
    ReportConfig,
    VariantResults,
    choose_queries,
)
from landmark_retrieval.retrieval.variants import stage_rows
from landmark_retrieval.verification.candidates import PLACE


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the variants found, and what explains it.

    Attributes:
        rankings: per variant int32 `[q, any]` index rows, -1 padded; in the order of the ablation.
        traversals: traversals of the variants that traverse the graph.
        similarities: per variant float32 of the ranking's shape, the similarity of each result; may be
            missing for any variant. Traversed variants show the weight of the edge that led to the result.
        pairs: the pairs of images that verification tried, columns `row_a`, `row_b` (table rows,
            row_a < row_b) and `inliers`; the results that were tried show their inliers.
        label_bridges: of the variants that use labels the voted ones, to name the train images of label
            edges.
    """

    rankings: Mapping[str, NDArray[np.int32]]
    traversals: Mapping[str, Traversal] = field(default_factory=dict)
    similarities: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    pairs: pd.DataFrame | None = None
    label_bridges: Mapping[str, LabelBridge] = field(default_factory=dict)


def precisions(findings: Findings, images: pd.DataFrame) -> NDArray[np.float64]:
    """Return AP@100 of every variant and query, float64 `[v, q]`; NaN for queries that do not count.

    Args:
        findings: rankings of v variants.
        images: the prepared image table.
    """
    rows, relevant = SplitRows.from_table(images), relevant_index_rows(images)
    values = np.stack([average_precision(ranking, relevant) for ranking in findings.rankings.values()])
    values[:, (images["usage"].iloc[rows.asked] == "Ignored").to_numpy(dtype=bool)] = np.nan
    return values


def query_pages(findings: Findings, images: pd.DataFrame, config: ReportConfig) -> list[QueryPage]:
    """Choose queries and gather what every variant found for them.

    Args:
        findings: findings of all queries.
        images: the prepared image table.
        config: what to show.

    Returns:
        One page a query, in the order of `report.choose_queries`.
    """
    scores = precisions(findings, images)
    stages = scores[stage_rows(list(findings.rankings))]
    chosen = choose_queries(stages, config.queries)
    relevant = relevant_index_rows(images)
    gatherer = _Gatherer(
        findings=findings,
        config=config,
        known=_Known.of(images),
        rows=SplitRows.from_table(images),
        names=landmark_names(images),
        evidence=_evidence(findings.pairs, chosen),
    )
    landmarks = landmark_of(images)
    return [
        QueryPage(
            row=query,
            variants=gatherer.results(query, relevant[query], scores[:, query]),
            paths=gatherer.paths(query, relevant[query]),
            landmark=gatherer.names.get(int(landmarks[query]), ""),
            relevant=len(relevant[query]),
        )
        for query in map(int, chosen)
    ]


def shown_images(pages: Sequence[QueryPage], images: pd.DataFrame) -> dict[int, Source]:
    """Return the file (or the part of it) of every image that the pages show, by table row.

    Args:
        pages: from `query_pages`.
        images: the prepared image table.
    """
    rows = sorted({row for page in pages for row in page.images()})
    return dict(zip(rows, image_sources(images.iloc[rows]), strict=True))


def _evidence(pairs: pd.DataFrame | None, queries: NDArray[np.int64]) -> dict[tuple[int, int], str]:
    """Return what is known of the tried pairs of some queries by table rows, the query's first, in words."""
    if pairs is None:
        return {}
    found: dict[tuple[int, int], str] = {}
    for query, other in (("row_a", "row_b"), ("row_b", "row_a")):
        of_queries = pairs[pairs[query].isin(queries)]
        keys = zip(of_queries[query].tolist(), of_queries[other].tolist(), strict=True)
        found |= dict(zip(keys, map(_in_words, of_queries.to_dict("records")), strict=True))
    return found


def _in_words(pair: Mapping[Hashable, Any]) -> str:
    """Return the inliers of a pair, the turn at which they were found, and which lists proposed it where."""
    words = [f"{pair['inliers']}\N{NO-BREAK SPACE}inliers"]
    if pair.get("turn"):
        words.append(f"turned\N{NO-BREAK SPACE}by\N{NO-BREAK SPACE}{pair['turn']}°")
    lists = {
        str(name).removeprefix(PLACE): place for name, place in pair.items() if str(name).startswith(PLACE)
    }
    words += [f"{name}\N{NO-BREAK SPACE}#{place}" for name, place in lists.items() if place]
    return ", ".join(words)


@dataclass(frozen=True, eq=False)
class _Known:
    """Of which results it is known whether they are right.

    A query without a landmark (or list) knows nothing. Where a collection has queries of its own, its index
    images without a landmark are distractors and wrong; where it is asked about itself, they are not known.

    Attributes:
        asked: bool `[asked]` whether anything is known of the results of a query.
        index: bool `[n]` whether an index image can be told to be wrong.
    """

    asked: NDArray[np.bool_]
    index: NDArray[np.bool_]

    @classmethod
    def of(cls, images: pd.DataFrame) -> _Known:
        rows, labelled = SplitRows.from_table(images), landmark_of(images) >= 0
        everything = np.ones(rows.index.stop - rows.index.start, dtype=bool)
        if "relevant" in images:
            return cls(images["relevant"].iloc[rows.asked].notna().to_numpy(dtype=bool), everything)
        return cls(labelled[rows.asked], labelled[rows.index] if rows.among_themselves else everything)

    def judge(self, query: int, results: NDArray[np.int32], relevant: NDArray[np.int64]) -> list[bool | None]:
        """Say of each result whether it is right, None where that is not known."""
        if not self.asked[query]:
            return [None] * len(results)
        right = np.isin(results, relevant)
        return [
            True if yes else False if self.index[row] else None
            for row, yes in zip(results, right, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class _Gatherer:
    """What is looked up for every query."""

    findings: Findings
    config: ReportConfig
    known: _Known
    rows: SplitRows
    names: Mapping[int, str]
    evidence: Mapping[tuple[int, int], str]

    def results(
        self, query: int, relevant: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> list[VariantResults]:
        """Return what every variant found for a query."""
        variants = []
        for (name, ranking), score in zip(self.findings.rankings.items(), scores, strict=True):
            positions = np.flatnonzero(ranking[query, : self.config.results] >= 0)
            results = ranking[query, positions]
            variants.append(
                VariantResults(
                    name=name,
                    average_precision=float(score),
                    rows=[self.rows.index.start + int(row) for row in results],
                    correct=self.known.judge(query, results, relevant),
                    notes=[self._note(name, query, int(position)) for position in positions],
                )
            )
        return variants

    def paths(self, query: int, relevant: NDArray[np.int64]) -> list[Chain]:
        """Return the trusted paths that explain most, the variants in turn, the last one first.

        Those are paths of more than one similarity edge: first to right results that the first variant does
        not show, then to other results; long ones first. A path that several variants took is shown once.
        """
        baseline = next(iter(self.findings.rankings.values()))[query, : self.config.results]
        by_variant = []
        for variant in reversed(
            [name for name in self.findings.rankings if name in self.findings.traversals]
        ):
            found = list(self._indirect(variant, query, relevant))
            found.sort(
                key=lambda item: (
                    not item[1].correct or item[0] in baseline,
                    -len(item[1].steps),
                    item[1].rank,
                )
            )
            by_variant.append([path for _, path in found])
        turns = [path for turn in zip_longest(*by_variant) for path in turn if path is not None]
        different = {
            tuple((step.row, step.label_bridge) for step in path.steps): path for path in turns[::-1]
        }
        return list(different.values())[::-1][: self.config.paths]

    def _note(self, variant: str, query: int, position: int) -> str:
        """Return what led to a result in a few characters: a similarity or a label, evidence if tried."""
        parts = []
        findings, result = self.findings, int(self.findings.rankings[variant][query, position])
        traversal = findings.traversals.get(variant)
        if traversal is not None and traversal.ranking[query, position] == result:
            kind, score = traversal.kinds[query, position], traversal.scores[query, position]
            proof = "P\N{NO-BREAK SPACE}" if kind == VERIFIED_EDGE else ""
            parts.append("label" if kind == LABEL_EDGE else f"{proof}{score:.2f}")
        elif variant in findings.similarities:
            parts.append(f"{findings.similarities[variant][query, position]:.2f}")
        evidence = self.evidence.get((query, self.rows.index.start + result))
        if evidence is not None:
            parts.append(evidence)
        return " ".join(parts)

    def _indirect(self, variant: str, query: int, relevant: NDArray[np.int64]) -> Iterator[tuple[int, Chain]]:
        """Yield (index row, path) of every shown result that was not reached by one similarity edge."""
        traversal = self.findings.traversals[variant]
        for position, result in enumerate(traversal.ranking[query, : self.config.results]):
            if result < 0:
                break
            edges = trusted_path(traversal, query, position)
            if len(edges) > 1 or edges[0].kind == LABEL_EDGE:
                steps = [
                    explain_edge(
                        edge,
                        query,
                        self.rows.index.start,
                        self.rows.train.start,
                        self.findings.label_bridges.get(variant),
                        self.names,
                    )
                    for edge in edges
                ]
                (correct,) = self.known.judge(query, np.array([result]), relevant)
                yield int(result), Chain(variant, position + 1, correct, steps)
