"""Trusted paths in the terms of the image table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from landmark_retrieval.graph.egt import PathStep
from landmark_retrieval.graph.kernel import LABEL_EDGE, VERIFIED_EDGE
from landmark_retrieval.graph.label_bridge import LabelBridge, label_path


@dataclass(frozen=True)
class Step:
    """One edge of a trusted path, and the image that it leads to.

    Attributes:
        row: table row of the image.
        label_bridge: whether labels of train images led there rather than similarity.
        weight: similarity of the edge, or what the verified path is worth up to here; of no meaning for a
            label bridge.
        train_rows: for a label bridge, the table rows of the one or two train images that it goes through.
        similarities: for a label bridge, the similarity of the image before to the first of them, and of this
            image to the last.
        label: for a label bridge, the name of the label.
        verified: whether geometry proves the edge.
    """

    row: int
    label_bridge: bool
    weight: float
    train_rows: Sequence[int] = ()
    similarities: Sequence[float] = ()
    label: str = ""
    verified: bool = False


def explain_edge(
    edge: PathStep,
    query: int,
    index_start: int,
    train_start: int,
    bridge: LabelBridge | None,
    names: Mapping[int, str],
) -> Step:
    """Return an edge of a trusted path with what it went through.

    Args:
        edge: from `trusted_path`.
        query: row of the query whose path it is.
        index_start: table row of the first index image.
        train_start: table row of the first train image.
        bridge: voted labels, to name the train images of a label edge; None leaves them out.
        names: names of landmarks by number.
    """
    target = index_start + edge.target
    if edge.kind != LABEL_EDGE or bridge is None:
        return Step(
            target,
            label_bridge=edge.kind == LABEL_EDGE,
            weight=edge.weight,
            verified=edge.kind == VERIFIED_EDGE,
        )
    label, similarities, train = label_path(bridge, query, edge.source, edge.target)
    return Step(
        target,
        label_bridge=True,
        weight=edge.weight,
        train_rows=[train_start + int(row) for row in dict.fromkeys(train.tolist())],
        similarities=[float(value) for value in similarities],
        label=names.get(label, str(label)),
    )
