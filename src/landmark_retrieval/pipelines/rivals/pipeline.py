"""Stored descriptors, neighbours and rankings -> one row and one MLflow run for each rival."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.rivals import nodes
from landmark_retrieval.retrieval.variants import BLEND, Variant


def create_pipeline(variants: Sequence[Variant], **_: object) -> Pipeline:
    """Return the rivals pipeline.

    Args:
        variants: of the run, with whose rankings the rivals are compared.
    """
    return Pipeline(
        [
            Node(
                nodes.measure,
                inputs={
                    "images": "image_table",
                    "descriptors": f"{BLEND.name}.descriptors",
                    "graph": f"{BLEND.name}.knn_graph",
                    "config": "params:rivals",
                    "knn": "params:knn",
                    "intervals": "params:intervals",
                    **{variant.name: f"{variant.name}.ranking" for variant in variants},
                },
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
