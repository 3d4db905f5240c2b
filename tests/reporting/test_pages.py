from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection import prepare_image_table
from landmark_retrieval.graph import LabelBridge, Traversal, Votes
from landmark_retrieval.graph.kernel import LABEL_EDGE, SIMILARITY_EDGE
from landmark_retrieval.reporting.pages import Findings, precisions, query_pages, shown_images
from landmark_retrieval.reporting.report import Chain, ReportConfig, Step
from variant_names import VARIANTS


@pytest.fixture
def images() -> pd.DataFrame:
    """Queries 0 and 1, index images 2 to 5 (rows 0 to 3 of the index), train images 6 and 7."""
    return prepare_image_table(
        pd.DataFrame(
            {
                "image_id": ["q0", "q1", "a", "b", "c", "d", "t0", "t1"],
                "path": [f"{name}.jpg" for name in ("q0", "q1", "a", "b", "c", "d", "t0", "t1")],
                "split": ["query"] * 2 + ["index"] * 4 + ["train"] * 2,
                "landmark_id": [0, 1, 0, 0, 1, None, 0, 0],
                "landmark": ["mill", None, "mill", "mill", None, None, "mill", "mill"],
                "usage": ["Public", "Ignored"] + [None] * 6,
            }
        )
    )


def traversal(kind: int) -> Traversal:
    """Query 0 reaches a by similarity, from there b, and from b d; query 1 reaches c."""
    return Traversal(
        ranking=np.array([[0, 1, 3], [2, -1, -1]], np.int32),
        scores=np.array(
            [[0.8, np.inf if kind == LABEL_EDGE else 0.7, 0.6], [0.5, -np.inf, -np.inf]], np.float32
        ),
        parents=np.array([[-1, 0, 1], [-1, -1, -1]], np.int32),
        kinds=np.array([[SIMILARITY_EDGE, kind, SIMILARITY_EDGE], [SIMILARITY_EDGE, 0, 0]], np.int8),
    )


@pytest.fixture
def findings() -> Findings:
    plain, bridged = traversal(SIMILARITY_EDGE), traversal(LABEL_EDGE)
    blend = np.array([[3, 0, -1], [3, 2, 0]], np.int32)
    return Findings(
        rankings=dict(zip(VARIANTS, (blend, blend, plain.ranking, bridged.ranking), strict=True)),
        traversals={VARIANTS[2]: plain, VARIANTS[3]: bridged},
        similarities={VARIANTS[0]: np.array([[0.9, 0.85, -np.inf], [0.4, 0.3, 0.2]], np.float32)},
        pairs=pd.DataFrame({"row_a": [0, 1, 2], "row_b": [2, 2, 3], "inliers": [34, 5, 7]}),
        label_bridges={
            VARIANTS[3]: LabelBridge(
                queries=Votes(
                    np.array([0, -1]), np.array([1, -1], np.int32), np.array([0.77, -np.inf], np.float32)
                ),
                index=Votes(
                    np.array([0, 0, -1, -1]),
                    np.array([0, 1, -1, -1], np.int32),
                    np.array([0.71, 0.72, -np.inf, -np.inf], np.float32),
                ),
                train_label=np.array([0, 0]),
            )
        },
    )


def test_precisions(findings: Findings, images: pd.DataFrame) -> None:
    values = precisions(findings, images)
    assert values.shape == (4, 2)
    assert values[:, 0] == pytest.approx([0.25, 0.25, 1, 1])
    assert np.isnan(values[:, 1]).all()  # Ignored


def test_results(findings: Findings, images: pd.DataFrame) -> None:
    first, second = query_pages(findings, images, ReportConfig())
    assert (first.row, first.landmark, first.relevant, first.verdict) == (0, "mill", 2, "improved")
    assert (second.row, second.landmark, second.relevant, second.verdict) == (1, "1", 1, "unchanged")
    blend, expanded, plain, bridged = first.variants
    assert blend.rows == [5, 2] and blend.correct == [False, True]
    assert blend.notes == ["0.90", "0.85 34\u00a0inliers"]
    assert expanded.notes == ["", "34\u00a0inliers"]
    assert plain.notes == ["0.80 34\u00a0inliers", "0.70", "0.60"]
    assert bridged.notes == ["0.80 34\u00a0inliers", "label", "0.60"]
    assert bridged.rows == [2, 3, 5] and bridged.correct == [True, True, False]
    assert second.variants[2].rows == [4]


def test_paths(findings: Findings, images: pd.DataFrame) -> None:
    first, second = query_pages(findings, images, ReportConfig(paths=10))
    steps = [
        Step(2, False, pytest.approx(0.8)),
        Step(3, True, float("inf"), [6, 7], pytest.approx([0.71, 0.72]), "mill"),
    ]
    assert first.paths == [
        Chain(VARIANTS[3], 2, True, steps),
        Chain(VARIANTS[2], 2, True, [steps[0], Step(3, False, pytest.approx(0.7))]),
        Chain(VARIANTS[3], 3, False, [*steps, Step(5, False, pytest.approx(0.6))]),
        Chain(
            VARIANTS[2],
            3,
            False,
            [steps[0], Step(3, False, pytest.approx(0.7)), Step(5, False, pytest.approx(0.6))],
        ),
    ]
    assert second.paths == []  # one similarity edge explains nothing that the result does not say
    assert query_pages(findings, images, ReportConfig(paths=1))[0].paths == first.paths[:1]
    assert query_pages(findings, images, ReportConfig(paths=0))[0].paths == []


def test_a_path_of_several_variants_is_shown_once(findings: Findings, images: pd.DataFrame) -> None:
    same = dataclasses.replace(findings, traversals=dict.fromkeys(VARIANTS[2:], traversal(SIMILARITY_EDGE)))
    paths = query_pages(same, images, ReportConfig(paths=10))[0].paths
    assert [(path.variant, path.rank) for path in paths] == [(VARIANTS[3], 2), (VARIANTS[3], 3)]


def test_options(findings: Findings, images: pd.DataFrame) -> None:
    (only,) = query_pages(findings, images, ReportConfig(queries=1, results=1))
    assert only.row == 0 and only.variants[0].rows == [5] and only.paths == []
    bare = Findings(rankings={"blend": findings.rankings["blend"]})
    assert all(page.paths == [] for page in query_pages(bare, images, ReportConfig()))


def test_images_and_names(findings: Findings, images: pd.DataFrame) -> None:
    pages = query_pages(findings, images, ReportConfig(paths=10))
    shown = shown_images(pages, images)
    assert list(shown) == [0, 1, 2, 3, 4, 5, 6, 7] and shown[6] == "t0.jpg"
