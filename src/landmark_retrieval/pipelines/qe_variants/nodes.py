"""Nodes of the qe_variants pipeline."""

from __future__ import annotations

import logging

import pandas as pd

from landmark_retrieval.collection import DataSetConfig, SplitRows, relevant_index_rows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.experiments.qe_variants import (
    METRICS,
    OPTIONS,
    Described,
    QeVariantsConfig,
    format_variants,
    measure_variants,
)
from landmark_retrieval.knn import KnnConfig, KnnGraph
from landmark_retrieval.local_features import StoredFeatures
from landmark_retrieval.reporting import VariantRun
from landmark_retrieval.retrieval.stages import Verified
from landmark_retrieval.verification import VerificationConfig

logger = logging.getLogger(__name__)


def measure_expansions(
    descriptors: Descriptors,
    graph: KnnGraph,
    pairs: pd.DataFrame,
    local_features: StoredFeatures,
    images: pd.DataFrame,
    verification: VerificationConfig,
    config: QeVariantsConfig,
    knn: KnnConfig,
) -> pd.DataFrame:
    """Expand, search and re-rank by every variant; without local features, by those that need none."""
    if pairs.empty:
        config = config.without_verification()
        logger.info("no photos were compared: only expansions by the nearest images are measured")
    rows = SplitRows.from_table(images)
    queries, index = descriptors.part(rows.query), descriptors.part(rows.index)
    floor = verification.floor(local_features.extractor)
    verified = Verified(pairs, len(queries), verification.reach, (floor, floor))
    return measure_variants(
        Described(queries, index, graph, verified), relevant_index_rows(images), config, knn
    )


def write_expansions(table: pd.DataFrame, data_set: DataSetConfig) -> str:
    """Write the table as text, for terminals."""
    return format_variants(table, data_set.name)


def describe_expansions(
    table: pd.DataFrame, config: QeVariantsConfig, data_set: DataSetConfig, facts: dict[str, str]
) -> list[VariantRun]:
    """Make an MLflow run of every variant."""
    return [
        VariantRun(
            name=f"expansion {row['variant']}",
            parameters={
                "expansion": config.variants[row["variant"]].model_dump(mode="json")
                if row["variant"] in config.variants
                else dict.fromkeys(OPTIONS)
            },
            metrics={name: float(row[name]) for name in (*METRICS, "expanded")},
            tags={"table": "qe_variants", "data_set": data_set.name, "commit": facts["commit"]},
        )
        for row in table.to_dict("records")
    ]
