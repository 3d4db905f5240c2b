"""Labelled train images -> fine-tuned GeM and DIR descriptors (`gem.trained`, `dir.trained`)."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.pipelines.training import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the training pipeline."""
    return sum((create_training_pipeline(name) for name in DESCRIPTORS), start=Pipeline([]))


def create_training_pipeline(name: str) -> Pipeline:
    """Return the training of one global descriptor.

    Args:
        name: namespace, and name of the parameter group that configures the descriptor.
    """
    return Pipeline(
        [
            Node(
                nodes.train_descriptor,
                inputs=["image_table", "region_whitening", "params:descriptor", "params:training"],
                outputs="trained",
                name="train_descriptor",
            )
        ],
        namespace=name,
        inputs={"image_table"},
        parameters={"params:descriptor": f"params:{name}", "params:training": "params:training"},
    )
