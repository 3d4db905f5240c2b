"""Files of descriptors -> the image table and the blend that all later stages start from."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.features.nodes import prepare_images
from landmark_retrieval.pipelines.own_features import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the own_features pipeline."""
    return Pipeline(
        [
            Node(
                prepare_images,
                inputs=["photos", "params:data_set"],
                outputs=["image_table", "met_files"],
                name="prepare_image_table",
            ),
            Node(
                nodes.import_descriptors,
                inputs=["photos", "image_table", "params:descriptors", "params:blend"],
                outputs=["blend.descriptors", "import_steps"],
                name="import_descriptors",
                namespace="blend",
            ),
            Node(
                nodes.skip_nothing,
                inputs="image_table",
                outputs="skipped_images",
                name="skip_nothing",
            ),
        ]
    )
