"""Stored descriptors, neighbours and rankings -> one row and one MLflow run for each rival."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.evaluation.ablation import VARIANTS
from landmark_retrieval.pipelines.rivals import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the rivals pipeline."""
    return Pipeline(
        [
            Node(
                nodes.measure,
                inputs=[
                    "image_table",
                    "blend.descriptors",
                    "blend.knn_graph",
                    "params:rivals",
                    "params:knn",
                    "params:intervals",
                    *(f"{variant}.ranking" for variant in VARIANTS),
                ],
                outputs="rivals",
                name="measure_rivals",
            ),
            Node(
                nodes.write_rivals,
                inputs=["rivals", "params:rivals", "params:data_set"],
                outputs="rivals_text",
                name="write_rivals",
            ),
            Node(
                nodes.describe_rivals,
                inputs=["rivals", "params:rivals", "params:data_set", "run_facts"],
                outputs="rivals_mlflow_runs",
                name="log_rival_runs",
            ),
        ]
    )
