"""Nodes of the egt_sweep pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from landmark_retrieval.collection import (
    SOURCE_ROW,
    DataSetConfig,
    SplitRows,
    hold_out_train,
    landmark_of,
    relevant_index_rows,
)
from landmark_retrieval.descriptors import (
    Descriptors,
    GlobalDescriptorConfig,
    RawDescriptors,
    learn_whitening,
    take_rows,
    whiten_rows,
)
from landmark_retrieval.experiments.sweep import OPTIONS, HeldOut, SweepConfig, chosen_options, sweep
from landmark_retrieval.graph import CsrGraph, EgtConfig, LabelBridgeConfig, TraversalConfig
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather
from landmark_retrieval.pipelines.egt.nodes import plan_train_search
from landmark_retrieval.reporting import VariantRun, figures
from landmark_retrieval.retrieval.stages import Searched
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore


def hold_out(images: pd.DataFrame, config: SweepConfig) -> pd.DataFrame:
    """Divide the train split anew; the queries and the index that are measured stay out of it."""
    return hold_out_train(
        images,
        seed=config.seed,
        query_fraction=config.query_fraction,
        train_fraction=config.train_fraction,
        max_landmarks=config.max_landmarks,
        absent_fraction=config.absent_fraction,
    )


def describe_held_out(
    raw: RawDescriptors, held_out: pd.DataFrame, config: GlobalDescriptorConfig
) -> Descriptors:
    """Whiten the held-out images anew, by what their own train split teaches.

    The whitening of the real data set knows the landmarks of the whole train split. Under it held-out images
    of one landmark are closer than photos never seen before would be, and every setting looks perfect.
    """
    rows = held_out[SOURCE_ROW].to_numpy()
    order = np.argsort(rows)
    matrix = take_rows(raw.matrix, rows[order])[np.argsort(order)]
    whitening = learn_whitening(matrix, held_out, config.whitening, config.trained)
    ids = held_out["image_id"].to_numpy(dtype=str)
    return Descriptors(ids, whiten_rows(matrix, whitening, config.storage))


def take_held_out(descriptors: Descriptors, held_out: pd.DataFrame) -> Descriptors:
    """Take the descriptors of the held-out images as they are: nothing in them knows a label."""
    rows = held_out[SOURCE_ROW].to_numpy()
    order = np.argsort(rows)
    matrix = take_rows(descriptors.matrix, rows[order])[np.argsort(order)]
    return Descriptors(held_out["image_id"].to_numpy(dtype=str), matrix)


def search_train_images(
    descriptors: Descriptors,
    images: pd.DataFrame,
    config: SweepConfig,
    knn: KnnConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the search for the train images that vote, as many as any setting needs."""
    return plan_train_search(descriptors, images, config.most_votes, knn, executor)


def sweep_options(
    graph: KnnGraph,
    index_graph: CsrGraph,
    train_shards: ShardStore,
    descriptors: Descriptors,
    images: pd.DataFrame,
    config: SweepConfig,
    egt: EgtConfig,
) -> pd.DataFrame:
    """Measure all settings."""
    rows, options = SplitRows.from_table(images), paper_options(egt)
    held_out = HeldOut(
        searched=Searched(
            graph.queries, index_graph, options, descriptors.part(rows.query), descriptors.part(rows.index)
        ),
        train=gather(train_shards),
        train_labels=landmark_of(images)[rows.train],
        relevant=relevant_index_rows(images),
    )
    return sweep(held_out, config)


def paper_options(egt: EgtConfig) -> TraversalConfig:
    """Return the traversal over similarities, which is what the options that are swept belong to."""
    paper = egt.model_copy(update={"weights": "similarity"})
    return TraversalConfig(egt=paper.settled(), label_bridge=LabelBridgeConfig(precedence="always").settled())


def choose_options(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return what the egt pipeline takes for options that are left open."""
    return chosen_options(table)


def plot_sweep(table: pd.DataFrame) -> Figure:
    """Draw mAP over the thresholds, and over the options of the label bridge."""
    return figures.plot_sweep(table)


def describe_points(table: pd.DataFrame, data_set: DataSetConfig, facts: dict[str, str]) -> list[VariantRun]:
    """Make an MLflow run of every setting."""
    return [
        VariantRun(
            name=f"sweep {point['variant']}",
            parameters={name: point[name] for name in OPTIONS if pd.notna(point[name])},
            metrics={"held_out_mAP_at_100": point["mAP_at_100"]},
            tags={
                "sweep": "egt",
                "chosen": str(point["chosen"]),
                "data_set": data_set.name,
                "commit": facts["commit"],
            },
        )
        for point in table.to_dict("records")
    ]
