"""Nodes of the rivals pipeline."""

from __future__ import annotations

import logging

import pandas as pd

from landmark_retrieval.collection import DataSetConfig
from landmark_retrieval.descriptors import Descriptors, check_ids
from landmark_retrieval.evaluation import BootstrapConfig, Ranking
from landmark_retrieval.experiments.rivals.table import RivalsConfig, format_rivals, measure_rivals
from landmark_retrieval.knn import KnnConfig, KnnGraph
from landmark_retrieval.reporting import VariantRun

logger = logging.getLogger(__name__)


def measure(
    images: pd.DataFrame,
    descriptors: Descriptors,
    graph: KnnGraph,
    config: RivalsConfig,
    knn: KnnConfig,
    intervals: BootstrapConfig,
    **rankings: Ranking,
) -> pd.DataFrame:
    """Rank by every rival and measure it beside the variants of the run."""
    check_ids(descriptors, images)
    found = {name: ranking.rows for name, ranking in rankings.items()}
    matrix = descriptors.part(slice(0, len(images)))
    return measure_rivals(images, matrix, graph, found, config, knn, intervals)


def write_rivals(table: pd.DataFrame, config: RivalsConfig, data_set: DataSetConfig) -> str:
    """Write the table as text, for terminals, and in the log."""
    text = format_rivals(table, data_set.name, config.reference)
    logger.info("%s", text)
    return text


def describe_rivals(
    table: pd.DataFrame, config: RivalsConfig, data_set: DataSetConfig, facts: dict[str, str]
) -> list[VariantRun]:
    """Make an MLflow run of every rival; the run's own variants have theirs."""
    return [
        VariantRun(
            name=row["variant"],
            parameters={"rival": config.methods[row["variant"]].model_dump(mode="json")},
            metrics={str(name): float(value) for name, value in row.items() if name != "variant"},
            tags={"table": "rivals", "data_set": data_set.name, "commit": facts["commit"]},
        )
        for row in table.to_dict("records")
        if row["variant"] in config.methods
    ]
