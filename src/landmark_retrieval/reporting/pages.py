"""What the gallery shows of each query, gathered from rankings and traversals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, zip_longest

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.data_sets import SplitRows, landmark_of, relevant_index_rows
from landmark_retrieval.evaluation.gld import average_precision, relevance
from landmark_retrieval.graph import LabelBridge, PathStep, Traversal, label_path, trusted_path
from landmark_retrieval.graph.kernel import LABEL_EDGE
from landmark_retrieval.reporting.gallery import (
    Chain,
    GalleryConfig,
    QueryPage,
    Step,
    VariantResults,
    choose_queries,
)


@dataclass(frozen=True, eq=False)
class Findings:
    """All that the variants found, and what explains it.

    Attributes:
        rankings: per variant int32 `[q, any]` index rows, -1 padded; in the order of the ablation.
        traversals: of the variants that traverse the graph.
        similarities: per variant float32 of the ranking's shape, the similarity of each result; may be
            missing for any variant. Traversed variants show the weight of the edge that led to the result.
        inliers: number of verified matches by (query, index row), for pairs that were verified.
        label_bridge: the voted labels, to name the training images of label edges.
    """

    rankings: Mapping[str, NDArray[np.int32]]
    traversals: Mapping[str, Traversal] = field(default_factory=dict)
    similarities: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    inliers: Mapping[tuple[int, int], int] = field(default_factory=dict)
    label_bridge: LabelBridge | None = None


def precisions(findings: Findings, images: pd.DataFrame) -> NDArray[np.float64]:
    """Return AP@100 of every variant and query, float64 `[v, q]`; NaN for queries that do not count."""
    rows, relevant = SplitRows.from_table(images), relevant_index_rows(images)
    values = np.stack([average_precision(ranking, relevant) for ranking in findings.rankings.values()])
    values[:, (images["usage"].iloc[rows.query] == "Ignored").to_numpy(dtype=bool)] = np.nan
    return values


def query_pages(findings: Findings, images: pd.DataFrame, config: GalleryConfig) -> list[QueryPage]:
    """Choose queries and gather what every variant found for them.

    Args:
        findings: of all queries.
        images: the prepared image table.
        config: what to show.

    Returns:
        One page a query, in the order of `gallery.choose_queries`.
    """
    relevant = relevant_index_rows(images)
    scores = precisions(findings, images)
    hits = {name: relevance(ranking, relevant) for name, ranking in findings.rankings.items()}
    names = landmark_names(images)
    landmarks = landmark_of(images)
    pages = []
    for query in map(int, choose_queries(scores, config.queries, config.seed)):
        variants = [
            _results(
                findings, images, config, variant, query, hits[variant][query], float(scores[number, query])
            )
            for number, variant in enumerate(findings.rankings)
        ]
        pages.append(
            QueryPage(
                row=query,
                variants=variants,
                paths=_chains(findings, images, config, query, relevant[query]),
                landmark=names.get(int(landmarks[query]), ""),
                relevant=len(relevant[query]),
            )
        )
    return pages


def shown_images(pages: Sequence[QueryPage], images: pd.DataFrame) -> dict[int, str]:
    """Return the file of every image that the pages show, by table row."""
    rows = sorted({row for page in pages for row in page.images()})
    return {row: str(path) for row, path in zip(rows, images["path"].iloc[rows], strict=True)}


def landmark_names(images: pd.DataFrame) -> dict[int, str]:
    """Return the name of every landmark of a prepared table: `landmark`, or its number where it has none."""
    known = images[images["landmark_id"].notna()].drop_duplicates("landmark_id")
    return {
        int(number): str(number) if pd.isna(name) else str(name)
        for number, name in zip(known["landmark_id"], known["landmark"], strict=True)
    }


def _results(
    findings: Findings,
    images: pd.DataFrame,
    config: GalleryConfig,
    variant: str,
    query: int,
    hits: NDArray[np.bool_],
    score: float,
) -> VariantResults:
    first = SplitRows.from_table(images).index.start
    positions = np.flatnonzero(findings.rankings[variant][query, : config.results] >= 0)
    results = findings.rankings[variant][query, positions]
    return VariantResults(
        name=variant,
        average_precision=score,
        rows=[first + int(row) for row in results],
        correct=[bool(hit) for hit in hits[positions]],
        notes=[_note(findings, variant, query, int(position)) for position in positions],
    )


def _note(findings: Findings, variant: str, query: int, position: int) -> str:
    """Return what led to a result in a few characters: a similarity or a label, and inliers if verified."""
    parts = []
    traversal = findings.traversals.get(variant)
    if (
        traversal is not None
        and traversal.ranking[query, position] == findings.rankings[variant][query, position]
    ):
        label = traversal.kinds[query, position] == LABEL_EDGE
        parts.append("label" if label else f"{traversal.scores[query, position]:.2f}")
    elif variant in findings.similarities:
        parts.append(f"{findings.similarities[variant][query, position]:.2f}")
    inliers = findings.inliers.get((query, int(findings.rankings[variant][query, position])))
    if inliers is not None:
        parts.append(f"{inliers} inl.")
    return " · ".join(parts)


def _chains(
    findings: Findings, images: pd.DataFrame, config: GalleryConfig, query: int, relevant: NDArray[np.int64]
) -> list[Chain]:
    """Return the trusted paths that explain most, the last variant's first.

    Those are paths of more than one similarity edge: first to right results that the first variant does not
    show, then to other results; long ones first.
    """
    baseline = next(iter(findings.rankings.values()))[query, : config.results]
    by_variant = []
    for variant in reversed([name for name in findings.rankings if name in findings.traversals]):
        found = list(_paths(findings, images, config, variant, query, relevant))
        found.sort(
            key=lambda item: (not item[1].correct or item[0] in baseline, -len(item[1].steps), item[1].rank)
        )
        by_variant.append([path for _, path in found])
    turns = chain.from_iterable(zip_longest(*by_variant))
    return [path for path in turns if path is not None][: config.paths]


def _paths(
    findings: Findings,
    images: pd.DataFrame,
    config: GalleryConfig,
    variant: str,
    query: int,
    relevant: NDArray[np.int64],
) -> Iterator[tuple[int, Chain]]:
    """Yield (index row, path) of every shown result that was not reached by one similarity edge."""
    traversal, rows = findings.traversals[variant], SplitRows.from_table(images)
    names = landmark_names(images)
    for position, result in enumerate(traversal.ranking[query, : config.results]):
        if result < 0:
            break
        edges = trusted_path(traversal, query, position)
        if len(edges) == 1 and edges[0].kind != LABEL_EDGE:
            continue
        steps = [_step(edge, query, rows, findings.label_bridge, names) for edge in edges]
        yield int(result), Chain(variant, position + 1, bool(np.isin(result, relevant)), steps)


def _step(
    edge: PathStep, query: int, rows: SplitRows, bridge: LabelBridge | None, names: Mapping[int, str]
) -> Step:
    target = rows.index.start + edge.target
    if edge.kind != LABEL_EDGE:
        return Step(target, label_bridge=False, weight=edge.weight)
    if bridge is None:
        return Step(target, label_bridge=True, weight=edge.weight)
    label, similarities, train = label_path(bridge, query, edge.source, edge.target)
    return Step(
        target,
        label_bridge=True,
        weight=edge.weight,
        train_rows=[rows.train.start + int(row) for row in dict.fromkeys(train.tolist())],
        similarities=[float(value) for value in similarities],
        label=names.get(label, str(label)),
    )
