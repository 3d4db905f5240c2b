"""Stored descriptors, neighbours and verified pairs -> one row and one MLflow run for each expansion."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.qe_variants import nodes
from landmark_retrieval.retrieval.variants import BLEND


def create_pipeline(**_: object) -> Pipeline:
    """Return the qe_variants pipeline."""
    return Pipeline(
        [
            Node(
                nodes.measure_expansions,
                inputs=[
                    f"{BLEND.name}.descriptors",
                    f"{BLEND.name}.knn_graph",
                    "verified_pairs",
                    "local_features",
                    "image_table",
                    "params:verification",
                    "params:qe_variants",
                    "params:knn",
                ],
                outputs="qe_variants",
                name="measure_expansions",
            ),
            Node(
                nodes.write_expansions,
                inputs=["qe_variants", "params:data_set"],
                outputs="qe_variants_text",
                name="write_expansions",
            ),
            Node(
                nodes.describe_expansions,
                inputs=["qe_variants", "params:qe_variants", "params:data_set", "run_facts"],
                outputs="qe_variants_mlflow_runs",
                name="log_expansion_runs",
            ),
        ]
    )
