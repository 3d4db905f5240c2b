"""The sweep of options, against the metric of each setting computed one by one."""

import numpy as np
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import evaluate_variant
from landmark_retrieval.experiments.sweep import HeldOut, SweepConfig, chosen_options, sweep
from landmark_retrieval.graph import (
    EgtConfig,
    LabelBridgeConfig,
    TraversalConfig,
    build_label_bridge,
    explore_exploit,
    explore_exploit_with_labels,
    label_hubs,
    symmetrize,
)
from landmark_retrieval.knn import KnnConfig, build_knn_graph, search
from landmark_retrieval.retrieval.stages import Searched

EGT = EgtConfig(weights="similarity", p=20, threads=1)
CONFIG = SweepConfig(
    t=(0.2, 0.6, np.inf),
    min_similarity=(-np.inf, 0.9),
    order=("row", "query_similarity"),
    votes=((3, 3), (1, 5)),
)


@pytest.fixture(scope="module")
def held_out():
    random = np.random.default_rng(0)
    centres = random.normal(size=(6, 8))
    draw = lambda labels: (  # noqa: E731
        lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    )(centres[labels] + 0.7 * random.normal(size=(len(labels), 8)))
    of_queries, of_index, of_train = (np.repeat(np.arange(6), count) for count in (2, 6, 4))
    queries, index, train = draw(of_queries), draw(of_index), draw(of_train)
    knn = KnnConfig(k=8)
    graph = build_knn_graph(queries, index, knn)
    near = search(np.concatenate([queries, index]), train, KnnConfig(k=5))
    paper = LabelBridgeConfig(precedence="always").settled()
    config = TraversalConfig(egt=EGT.settled(), label_bridge=paper)
    return HeldOut(
        searched=Searched(graph.queries, symmetrize(graph.index), config, queries, index),
        train=near,
        train_labels=of_train.astype(np.int64),
        relevant=[np.flatnonzero(of_index == label) for label in of_queries],
    )


def metric(found, held_out):
    return evaluate_variant(found.ranking, held_out.relevant)["mAP_at_100"]


def test_every_point_is_the_map_of_its_setting(held_out):
    table = sweep(held_out, CONFIG)
    plain = table[table["variant"] == "blend_qe_sv_egt"]
    searched = held_out.searched
    for row in plain.itertuples():
        found = explore_exploit(searched.neighbors, searched.index_graph, EgtConfig(t=row.t, p=20))
        assert row.mAP_at_100 == pytest.approx(metric(found, held_out))
    assert plain["chosen"].sum() == 1
    assert plain["mAP_at_100"].max() == plain.loc[plain["chosen"], "mAP_at_100"].item()
    bridged = table[table["variant"] == "blend_qe_sv_semisup_egt"]
    assert len(bridged) == 2 * 2 * 2
    assert set(bridged["t"]) == {plain.loc[plain["chosen"], "t"].item()}
    q = len(searched.neighbors)
    for row in bridged.itertuples():
        options = LabelBridgeConfig(
            query_votes=row.query_votes,
            index_votes=row.index_votes,
            min_similarity=row.min_similarity,
            order=row.order,
        )
        near = held_out.train
        bridge = build_label_bridge(near[:q], near[q:], held_out.train_labels, options)
        found = explore_exploit_with_labels(
            searched.neighbors,
            searched.index_graph,
            label_hubs(bridge, options, searched.index),
            bridge.queries,
            EgtConfig(t=row.t, p=20),
            searched.queries,
        )
        assert row.mAP_at_100 == pytest.approx(metric(found, held_out))


def test_the_chosen_options_are_those_of_the_best_points(held_out):
    table = sweep(held_out, CONFIG)
    chosen = chosen_options(table)
    assert set(chosen) == {"egt", "label_bridge"}
    assert chosen["egt"]["t"] == table["t"][table["chosen"]].iloc[0]
    best = table[table["variant"] == "blend_qe_sv_semisup_egt"].sort_values("mAP_at_100").iloc[-1]
    picked = LabelBridgeConfig(**chosen["label_bridge"])
    assert table[table["chosen"]]["mAP_at_100"].iloc[1] == best["mAP_at_100"]
    assert picked.order in CONFIG.order and picked.min_similarity in CONFIG.min_similarity


def test_of_equals_the_default_or_else_the_middle_is_chosen(held_out):
    options = {"votes": ((3, 3),), "order": ("row",), "min_similarity": (-5.0, -4.0, -3.0)}
    without_default = sweep(held_out, SweepConfig(t=(7.0, 8.0, 9.0), **options))
    assert without_default["chosen"].tolist() == [False, True, False] * 2
    options = {"votes": ((3, 3),), "order": ("query_similarity",), "min_similarity": (-5.0, -4.0, 0.0)}
    far = LabelBridgeConfig().settled().min_similarity
    assert far == 0.0 and (held_out.train.weights[:, :3] > 0).all()
    with_default = sweep(held_out, SweepConfig(t=(7.0, 8.0, 9.0), **options))
    assert with_default["chosen"].tolist() == [False, True, False, False, False, True]


def test_a_misspelt_order_is_refused():
    with pytest.raises(ValueError, match="order"):
        SweepConfig(order=("similarity",))
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'votes'"):
        SweepConfig(vote=())
