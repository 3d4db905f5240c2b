"""Files of descriptors -> the image table and the blend that all later stages start from."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.features.nodes import aggregate_features, learn_codebook, prepare_images
from landmark_retrieval.pipelines.features.pipeline import AGGREGATED
from landmark_retrieval.pipelines.own_features import nodes


def create_aggregated_pipeline() -> Pipeline:
    """Return what makes one descriptor of the local features of an image, as `features` does."""
    return Pipeline(
        [
            Node(
                learn_codebook,
                inputs=["image_table", "local_features", "store", "params:aggregated"],
                outputs=f"{AGGREGATED}.codebook",
                name="learn_codebook",
                namespace=AGGREGATED,
            ),
            Node(
                aggregate_features,
                inputs=["image_table", "local_features", f"{AGGREGATED}.codebook"],
                outputs=f"{AGGREGATED}.descriptors",
                name="aggregate_features",
                namespace=AGGREGATED,
            ),
        ]
    )


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
                nodes.import_local_features,
                inputs=[
                    "image_table",
                    "store",
                    "params:descriptors",
                    "params:local_features",
                    "params:executor",
                ],
                outputs=["local_features", "oriented_table"],
                name="import_local_features",
            ),
            Node(
                nodes.skip_nothing,
                inputs="image_table",
                outputs="skipped_images",
                name="skip_nothing",
            ),
        ]
    )
